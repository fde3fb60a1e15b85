package mailer

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keystore"
	"github.com/qkdmail/qkdmail/mailer/internal/refusal"
)

// Deliveries remember who has received which message. A message is known by its sender's
// SAE ID, its identity, and the key ID in its control part.
type Deliveries interface {
	// Begin begins a delivery, and end ends it. commit, which is called once the whole
	// message is there, reports whether it may be delivered: no copy has meanwhile been
	// delivered to one of the recipients.
	Begin(identity kmclient.Identity, rcpts ...string) (commit func() bool, end func())
	// Delivered reports, in the order of rcpts, which recipients have received a message.
	// The error is a keystore.ErrBound if the key belongs to another message.
	Delivered(ctx context.Context, peer string, identity kmclient.Identity, keyID string, rcpts ...string) ([]bool, error)
	// RecordDelivered records durably that recipients have received a message.
	RecordDelivered(ctx context.Context, peer string, identity kmclient.Identity, keyID string, rcpts ...string) error
}

// Unrecorded are Deliveries that remember nothing: a message that is sent again,
// by a mail system that did not see the answer or by an attacker, is delivered
// again.
var Unrecorded Deliveries = unrecorded{}

type unrecorded struct{}

func (unrecorded) Begin(kmclient.Identity, ...string) (commit func() bool, end func()) {
	return func() bool { return true }, func() {}
}

func (unrecorded) Delivered(_ context.Context, _ string, _ kmclient.Identity, _ string, rcpts ...string) ([]bool, error) {
	return make([]bool, len(rcpts)), nil
}

func (unrecorded) RecordDelivered(context.Context, string, kmclient.Identity, string, ...string) error {
	return nil
}

// deliver hands a message to the recipients that do not have it yet, and records the
// deliveries. A mail system that did not see our 250 sends the message again, and may
// send one with many recipients in several transactions. opened is why the message could
// not be opened, nil if it could: a message whose key is closed may have been delivered
// before.
func (s *decryptSession) deliver(f *found, produce producer, opened error) answer {
	closed := errors.Is(opened, keystore.ErrClosed) || errors.Is(opened, keystore.ErrClaimed)
	switch {
	case opened != nil && (!closed || f.info == nil):
		return s.forLeft(f, s.sealedFor(f), answer{err: opened})
	case f.info == nil:
		return s.handOver(s.out, s.rcpts, produce)
	}
	commit, end := s.o.Deliveries.Begin(f.info.Identity, f.spellings(s.sealedFor(f))...)
	defer end()
	left, err := s.undelivered(f)
	switch {
	case err != nil:
		return s.forLeft(f, s.sealedFor(f), answer{err: err})
	case len(left) == 0:
		f.how = OutcomeBefore
		s.out.Reset()
		return s.forLeft(f, nil, answer{})
	case closed:
		// By the time a key is closed, the sender's mail system has given up.
		return s.forLeft(f, left, answer{err: opened})
	case len(left) < len(s.rcpts):
		if err := s.only(left); err != nil {
			return s.forLeft(f, left, answer{err: err})
		}
	}
	a := s.handOver(s.out, left, func(dst io.Writer) error {
		if err := produce(dst); err != nil || commit() {
			return err
		}
		return errUnderWay()
	})
	if got := a.delivered(left); len(got) > 0 {
		if err := s.recordDelivered(f, got); err != nil {
			return s.forLeft(f, left, answer{err: err, said: a.said, wait: a.wait}) // delivered, but it is safer to get it again
		}
	}
	return s.forLeft(f, left, a)
}

// errUnderWay is the answer to a copy of a message whose delivery is under way.
func errUnderWay() *refusal.Refusal {
	return refusal.New(451, smtp.EnhancedCode{4, 5, 0}, "under way", "This message is being delivered now, try again later")
}

// undelivered returns the recipients that may get the message and do not have it.
func (s *decryptSession) undelivered(f *found) ([]string, error) {
	defer f.keys.since(time.Now())
	rcpts := s.sealedFor(f)
	done, err := s.o.Deliveries.Delivered(s.ctx, f.info.SenderSAE, f.info.Identity, f.info.KeyID, f.spellings(rcpts)...)
	if err != nil {
		return nil, err
	}
	var left []string
	for i, rcpt := range rcpts {
		if !done[i] {
			left = append(left, rcpt)
		}
	}
	return left, nil
}

// spellings returns the recipients as the recipient list spells them, which is how
// deliveries are recorded. If the list is not known, as when the key is closed, it
// returns the client's spellings.
func (f *found) spellings(rcpts []string) []string {
	spellings := make([]string, len(rcpts))
	for i, rcpt := range rcpts {
		spellings[i] = f.list.Spelling(rcpt)
	}
	return spellings
}

// recordDelivered records deliveries under the recipient list's spellings and under the
// client's.
func (s *decryptSession) recordDelivered(f *found, rcpts []string) error {
	defer f.keys.since(time.Now())
	all := f.spellings(rcpts)
	for i, rcpt := range rcpts {
		if rcpt != all[i] {
			all = append(all, rcpt)
		}
	}
	return s.o.Deliveries.RecordDelivered(s.ctx, f.info.SenderSAE, f.info.Identity, f.info.KeyID, all...)
}

// only restarts the next hop's transaction, for some of the recipients. The next hop has
// accepted all of them before. A refusal now is about one of them, and the answer may be
// for several, so the refusal is not passed on as final.
func (s *decryptSession) only(rcpts []string) error {
	err := s.beginAgain(rcpts)
	if err == nil {
		return nil
	}
	r := replyTo(err)
	if r.Code/100 == 5 {
		r.Code, r.EnhancedCode[0] = 451, 4
	}
	return r
}

func (s *decryptSession) beginAgain(rcpts []string) error {
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

// forLeft returns the answer a for the recipients in left, a refusal for foreign ones,
// and success for the others.
func (s *decryptSession) forLeft(f *found, left []string, a answer) answer {
	single := make(map[string]error, len(s.rcpts))
	for _, rcpt := range s.rcpts {
		single[rcpt] = nil
	}
	for _, rcpt := range f.foreign {
		single[rcpt] = redirected()
	}
	for _, rcpt := range left {
		single[rcpt] = a.of(rcpt)
	}
	a.single = single
	return a
}
