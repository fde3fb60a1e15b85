package mailer

import (
	"context"
	"errors"
	"github.com/qkdmail/qkdmail/kmclient"
	"time"

	"github.com/qkdmail/qkdmail/kmclient/keystore"
)

// Deliveries remember who has got which message. A [keystore.Store] does. A
// message is known by the SAE ID of its sender, its identity, and the key ID in its
// control part.
type Deliveries interface {
	// Delivered reports which recipients have got a message, in their order. It
	// is a keystore.ErrBound if the key belongs to another message.
	Delivered(ctx context.Context, peer string, identity kmclient.Identity, keyID string, rcpts ...string) ([]bool, error)
	// RecordDelivered records, durably, that recipients have got it.
	RecordDelivered(ctx context.Context, peer string, identity kmclient.Identity, keyID string, rcpts ...string) error
}

// deliver hands a message to the recipients that have not got it yet, and records
// that they have. A mail system that did not see our 250 sends a message again, and
// one with many recipients in several transactions. opened is why the message can't
// be delivered, if it can't: under a key that is gone, it may have been before.
func (s *decryptSession) deliver(f *found, produce producer, opened error) (map[string]error, error) {
	closed := errors.Is(opened, keystore.ErrClosed) || errors.Is(opened, keystore.ErrClaimed)
	if opened != nil && !closed {
		return nil, opened
	}
	if s.o.Deliveries == nil || f.info == nil {
		if opened != nil {
			return nil, opened
		}
		return s.send(s.out, s.rcpts, produce, &f.hopWait)
	}
	left, err := s.undelivered(f)
	switch {
	case err != nil:
		return nil, err
	case len(left) == 0:
		f.how = OutcomeBefore
		s.out.Reset()
		return nil, nil
	case closed:
		// The key is gone, so it can't be the same mail system trying again.
		return s.answers(left, opened), opened
	case len(left) < len(s.rcpts):
		if err := s.only(left); err != nil {
			return s.answers(left, err), err
		}
	}
	single, err := s.send(s.out, left, produce, &f.hopWait)
	var got []string
	for _, rcpt := range left {
		if answer, ok := single[rcpt]; ok && answer == nil || !ok && err == nil {
			got = append(got, rcpt)
		}
	}
	if len(got) > 0 {
		if rerr := s.recordDelivered(f, got); rerr != nil {
			return nil, rerr // delivered, but it is safer to be told again
		}
	}
	answers := s.answers(left, err)
	for rcpt, answer := range single {
		answers[rcpt] = answer
	}
	return answers, err
}

// undelivered returns the recipients that have not got the message.
func (s *decryptSession) undelivered(f *found) ([]string, error) {
	defer f.keys.since(time.Now())
	done, err := s.o.Deliveries.Delivered(s.ctx, f.info.SenderSAE, f.info.Identity, f.info.KeyID, s.rcpts...)
	if err != nil {
		return nil, err
	}
	var left []string
	for i, rcpt := range s.rcpts {
		if !done[i] {
			left = append(left, rcpt)
		}
	}
	return left, nil
}

// recordDelivered records that recipients have got the message.
func (s *decryptSession) recordDelivered(f *found, rcpts []string) error {
	defer f.keys.since(time.Now())
	return s.o.Deliveries.RecordDelivered(s.ctx, f.info.SenderSAE, f.info.Identity, f.info.KeyID, rcpts...)
}

// only begins the next hop's transaction anew, for some of the recipients.
func (s *decryptSession) only(rcpts []string) error {
	s.out.Reset()
	opts := s.opts
	if err := s.out.Mail(s.from, &opts); err != nil {
		return err
	}
	for _, rcpt := range rcpts {
		if err := s.out.Rcpt(rcpt, s.asked[rcpt]); err != nil {
			return err
		}
	}
	return nil
}

// answers are one answer for those who are left, and 250 for the others.
func (s *decryptSession) answers(left []string, err error) map[string]error {
	answers := map[string]error{}
	for _, rcpt := range s.rcpts {
		answers[rcpt] = nil
	}
	for _, rcpt := range left {
		answers[rcpt] = err
	}
	return answers
}
