package keystore

import (
	"context"
	"fmt"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keystore/internal/engine"
	"github.com/qkdmail/qkdmail/kmclient/keystore/internal/sealed"
)

// maxRecipients is how many recipients of one message are recorded at most.
const maxRecipients = 1 << 16

// An underWay counts the deliveries of one message to one recipient that have begun and
// not ended.
type underWay struct {
	open  int
	busy  bool // one of them is committed
	turns int  // how many were committed
}

// Begin begins the delivery of a message to recipients; call it before Delivered. Call
// commit when the whole message is there, before anyone is told that it is complete: it
// reports whether the message may be delivered. It may not if another delivery to one
// of the recipients was committed since Begin, or is not recorded yet. Without this
// check, all copies that arrive at the same moment could be delivered. end ends the
// delivery.
//
// Begin does not hold back other processes that share the records: a record that did so
// might stay when its process is killed.
func (s *Store) Begin(identity kmclient.Identity, rcpts ...string) (commit func() bool, end func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	seen := map[sealed.Recipient]int{} // turns, by recipient
	for _, rcpt := range rcpts {
		sum := s.records.Recipient(identity, rcpt)
		if _, twice := seen[sum]; twice {
			continue
		}
		u := s.underWay[sum]
		if u == nil {
			u = new(underWay)
			s.underWay[sum] = u
		}
		u.open++
		if seen[sum] = u.turns; u.busy {
			seen[sum]-- // Delivered may not find it yet
		}
	}
	committed := false
	commit = func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		for sum, turns := range seen {
			if u := s.underWay[sum]; u.busy || u.turns != turns {
				return false
			}
		}
		for sum := range seen {
			s.underWay[sum].busy = true
			s.underWay[sum].turns++
		}
		committed = true
		return true
	}
	return commit, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		for sum := range seen {
			u := s.underWay[sum]
			u.busy = u.busy && !committed
			if u.open--; u.open == 0 {
				delete(s.underWay, sum)
			}
		}
	}
}

// Delivered reports, in the order of rcpts, which of them have already received a
// message from peer and must not get it again. identity identifies the message. keyID
// is any key that it names, such as the one in its control part; the key may be closed.
//
// If that key belongs to another message, or to none, the error is ErrBound, counted
// and logged as an alarm: a key ID proves nothing. If the key is closed and one of
// rcpts has not received the message, that is counted and logged as an alarm too, since
// a mail system that retries has the same recipients. If the message would have more
// than 65,536 recipients, the error is kmclient.ErrBadRequest.
func (s *Store) Delivered(ctx context.Context, peer string, identity kmclient.Identity, keyID string, rcpts ...string) ([]bool, error) {
	has, err := s.delivered(ctx, peer, identity, keyID, rcpts)
	if err != nil {
		return nil, s.fail(opDeliver, err)
	}
	return has, nil
}

func (s *Store) delivered(ctx context.Context, peer string, identity kmclient.Identity, keyID string, rcpts []string) ([]bool, error) {
	k, msg, err := s.keyAndMessage(ctx, false, peer, keyID, identity)
	if err != nil {
		return nil, err
	}
	defer k.wipe()
	if k != nil && !k.belongs(identity) {
		return nil, s.refuseBound(peer, k)
	}
	s.handOver(k, msg, identity)
	has := make([]bool, len(rcpts))
	left := 0
	for i, rcpt := range rcpts {
		if has[i] = msg.has(s.records.Recipient(identity, rcpt)); !has[i] {
			left++
		}
	}
	if msg != nil && left > 0 && len(msg.rcpts)+left > maxRecipients {
		return nil, fmt.Errorf("%w: more than %d recipients of one message", kmclient.ErrBadRequest, maxRecipients)
	}
	if k != nil && k.state == kmclient.StateClosed && left > 0 {
		s.count.closedRefused.Add(1)
		s.o.Logger.Error("a message came under a closed key, for a recipient who has not received it; it may be a replay",
			"alarm", "closed", "key_id", k.spelled, "peer", k.peer)
	}
	return has, nil
}

// handOver hands what Delivered has read over to RecordDelivered, unless the key is
// unknown (nil).
func (s *Store) handOver(k *keyRecord, msg *messageRecord, identity kmclient.Identity) {
	if k == nil {
		return
	}
	s.records.HandOver(k.raw.Name, k.raw)
	var raw *engine.Record
	if msg != nil {
		raw = msg.raw
	}
	s.records.HandOver(s.messageName(identity), raw)
}

// refuseBound raises the alarm for a message whose key is not its own, and returns the
// error.
func (s *Store) refuseBound(peer string, k *keyRecord) error {
	s.count.boundRefused.Add(1)
	s.o.Logger.Error("a message was refused: its key belongs to another one, or to none; its key ID may have been copied",
		"alarm", "bound", "key_id", k.spelled, "peer", peer)
	return fmt.Errorf("%w: %s", ErrBound, k.spelled)
}

// RecordDelivered records that recipients have received a message from peer; identity
// and keyID are as for Delivered. Call it after the next hop's 250 and before your own:
// if it fails, refuse the message for now, and it may be delivered a second time. If
// the key belongs to another message, the error is ErrBound, with an alarm; if it
// belongs to none, kmclient.ErrBadRequest. Recording a recipient twice is not an error.
// Recipients beyond 65,536, which concurrent calls of Delivered may let pass, are
// logged and not recorded.
func (s *Store) RecordDelivered(ctx context.Context, peer string, identity kmclient.Identity, keyID string, rcpts ...string) error {
	return s.fail(opDeliver, s.change(func(handed bool) error { return s.recordDelivered(ctx, handed, peer, identity, keyID, rcpts) }))
}

func (s *Store) recordDelivered(ctx context.Context, handed bool, peer string, identity kmclient.Identity, keyID string, rcpts []string) error {
	k, msg, err := s.keyAndMessage(ctx, handed, peer, keyID, identity)
	if err != nil {
		return err
	}
	defer k.wipe()
	if !k.belongs(identity) {
		if handed {
			return sealed.ErrNotHanded // read the store before anything is refused
		}
		return s.notOf(k, peer, keyID)
	}
	now := s.clock.late()
	if msg == nil {
		msg = &messageRecord{first: now, key: k.raw.Name.ID}
	}
	before := len(msg.rcpts)
	for _, rcpt := range rcpts {
		if sum := s.records.Recipient(identity, rcpt); !msg.has(sum) {
			msg.rcpts = append(msg.rcpts, sum)
		}
	}
	n := len(msg.rcpts) - before
	switch {
	case handed && (n == 0 || len(msg.rcpts) > maxRecipients):
		return sealed.ErrNotHanded // or left as it is
	case n == 0:
		return nil
	case len(msg.rcpts) > maxRecipients:
		s.o.Logger.Warn("a message was delivered to more recipients than can be recorded; the last may get it twice",
			"key_id", keyID, "recipients", len(msg.rcpts), "most", maxRecipients)
		msg.rcpts = msg.rcpts[:maxRecipients]
		n = maxRecipients - before
	}
	msg.last = now
	err = s.records.Apply(ctx, sealed.Edit{
		Old: msg.raw, Name: s.messageName(identity), Plain: msg.encode(),
		Due: s.o.Close.dueMessage(now, s.o.Tombstones),
	})
	if err == nil {
		s.count.delivered.Add(int64(n))
	}
	return err
}

// notOf returns the error for a key that does not belong to a message; k is nil if the
// key is unknown.
func (s *Store) notOf(k *keyRecord, peer, keyID string) error {
	switch {
	case k == nil:
		return fmt.Errorf("%w: %s: it is not in the store", kmclient.ErrKeyNotFound, keyID)
	case k.bound():
		return s.refuseBound(peer, k)
	}
	return fmt.Errorf("%w: key %s has opened no message, so none can be delivered", kmclient.ErrBadRequest, keyID)
}
