package keystore

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/qkdmail/qkdmail/kmclient"
)

// Delivered reports, in the order of rcpts, which of them have got a message from
// peer: they must not get it again. The message is known by its identity. keyID is
// any key that it names, as the one in its control part; it may be closed.
//
// If that key belongs to another message, or to none, the error is an ErrBound,
// which is counted and logged as an alarm: a key ID proves nothing. If the key is
// closed and one of rcpts has not got the message, that is counted and logged as an
// alarm too: it is no mail system that tries once more. If the message would have
// more than MaxRecipients, the error is a kmclient.ErrBadRequest.
func (s *Store) Delivered(ctx context.Context, peer string, identity kmclient.Identity, keyID string, rcpts ...string) ([]bool, error) {
	has, err := s.delivered(ctx, peer, identity, keyID, rcpts)
	if err != nil {
		return nil, s.fail(opDeliver, err)
	}
	return has, nil
}

func (s *Store) delivered(ctx context.Context, peer string, identity kmclient.Identity, keyID string, rcpts []string) ([]bool, error) {
	k, err := s.ownerRecord(ctx, peer, identity, keyID)
	if err != nil {
		return nil, err
	}
	defer k.wipe()
	if k != nil && !k.belongs(identity) {
		return nil, s.refuseBound(peer, k)
	}
	msg, _, err := s.message(ctx, asStored, identity)
	if err != nil {
		return nil, err
	}
	has := make([]bool, len(rcpts))
	left := 0
	for i, rcpt := range rcpts {
		if has[i] = msg.has(s.sealed.recipient(identity[:], rcpt)); !has[i] {
			left++
		}
	}
	if msg != nil && left > 0 && len(msg.rcpts)+left > MaxRecipients {
		return nil, fmt.Errorf("%w: more than %d recipients of one message", kmclient.ErrBadRequest, MaxRecipients)
	}
	if k != nil && k.state == kmclient.StateClosed && left > 0 {
		s.count.closedRefused.Add(1)
		s.o.Logger.Error("a message came under a closed key, for somebody who has not got it; it may be a replay",
			"alarm", "closed", "key_id", k.spelled, "peer", k.peer)
	}
	return has, nil
}

// ownerRecord returns the record of a key that may belong to a message; nil if
// there is none, or if it is known to do so, which never changes.
func (s *Store) ownerRecord(ctx context.Context, peer string, identity kmclient.Identity, keyID string) (*keyRecord, error) {
	if s.sealed.recent.belongs(s.keyName(peer, keyID), identity) {
		return nil, nil
	}
	k, err := s.keyRecord(ctx, asSeen, peer, keyID)
	if errors.Is(err, errNotSeen) || err == nil && !k.belongs(identity) {
		k.wipe()
		k, err = s.keyRecord(ctx, asStored, peer, keyID)
	}
	return k, err
}

// refuseBound is the alarm for a message whose key is not its own, and the error.
func (s *Store) refuseBound(peer string, k *keyRecord) error {
	s.count.boundRefused.Add(1)
	s.o.Logger.Error("a message was refused: its key belongs to another one, or to none; somebody may have copied the key ID",
		"alarm", "bound", "key_id", k.spelled, "peer", peer)
	return fmt.Errorf("%w: %s", ErrBound, k.spelled)
}

// RecordDelivered records that recipients have got a message from peer, which is
// known as for Delivered. It is to be called after the next hop's 250 and before
// one's own: if it fails, the message is refused for now and may be delivered a
// second time. If the key belongs to another message, the error is an ErrBound and
// an alarm; if it belongs to none, an ErrNotBound. Recording somebody twice is no
// error. Those beyond MaxRecipients, whom Delivered has let pass at the same time
// as others, are logged and not recorded.
func (s *Store) RecordDelivered(ctx context.Context, peer string, identity kmclient.Identity, keyID string, rcpts ...string) error {
	return s.fail(opDeliver, change(func(from view) error { return s.recordDelivered(ctx, from, peer, identity, keyID, rcpts) }))
}

func (s *Store) recordDelivered(ctx context.Context, from view, peer string, identity kmclient.Identity, keyID string, rcpts []string) error {
	if err := s.checkBelongs(ctx, from, peer, identity, keyID); err != nil {
		return err
	}
	msg, old, err := s.message(ctx, from, identity)
	if err != nil {
		return err
	}
	now := s.clock.late()
	if msg == nil {
		msg = &messageRecord{first: now}
	}
	before := len(msg.rcpts)
	for _, rcpt := range rcpts {
		if sum := s.sealed.recipient(identity[:], rcpt); !msg.has(sum) {
			msg.rcpts = append(msg.rcpts, sum)
		}
	}
	n := len(msg.rcpts) - before
	switch {
	case from == asSeen && (n == 0 || len(msg.rcpts) > MaxRecipients):
		return errNotSeen // nothing is refused or left as it is without a look
	case n == 0:
		return nil
	case len(msg.rcpts) > MaxRecipients:
		s.o.Logger.Warn("a message has got to more recipients than can be recorded; the last may get it twice",
			"key_id", keyID, "recipients", len(msg.rcpts), "most", MaxRecipients)
		msg.rcpts = msg.rcpts[:MaxRecipients]
		n = MaxRecipients - before
	}
	msg.last = now
	err = s.sealed.apply(ctx, edit{
		old: old, name: s.messageName(identity), plain: msg.encode(),
		due: s.o.Close.dueMessage(now, s.o.Tombstones),
	})
	if err == nil {
		s.count.delivered.Add(int64(n))
	}
	return err
}

// checkBelongs reports why a key does not belong to a message.
func (s *Store) checkBelongs(ctx context.Context, from view, peer string, identity kmclient.Identity, keyID string) error {
	if from == asSeen && s.sealed.recent.belongs(s.keyName(peer, keyID), identity) {
		return nil
	}
	k, err := s.keyRecord(ctx, from, peer, keyID)
	if err != nil {
		return err
	}
	defer k.wipe()
	switch {
	case k.belongs(identity):
		return nil
	case from == asSeen:
		return errNotSeen // nothing is refused without a look
	case k == nil:
		return fmt.Errorf("%w: %s: it is not in the store", kmclient.ErrKeyNotFound, keyID)
	case k.bound():
		return s.refuseBound(peer, k)
	}
	return fmt.Errorf("%w: %s", ErrNotBound, keyID)
}

// keyRecord returns what is known of one key, nil if nothing is.
func (s *Store) keyRecord(ctx context.Context, from view, peer, id string) (*keyRecord, error) {
	if err := kmclient.CheckID(id); err != nil {
		return nil, fmt.Errorf("%w: %w", kmclient.ErrBadRequest, err)
	}
	records, err := s.keyRecords(ctx, from, peer, []string{id})
	if err != nil {
		return nil, err
	}
	return records[0], nil
}

func (s *Store) messageName(identity kmclient.Identity) Name {
	return s.name(KindMessage, hex.EncodeToString(identity[:]))
}

// message returns who has got a message, nil if nobody has, and the record that
// says so.
func (s *Store) message(ctx context.Context, from view, identity kmclient.Identity) (*messageRecord, *Record, error) {
	items, err := s.sealed.get(ctx, from, s.messageName(identity))
	if err != nil || items[0] == nil {
		return nil, nil, err
	}
	msg, err := items[0].asMessage()
	return msg, items[0].Record, err
}

func (it *item) asMessage() (*messageRecord, error) {
	msg, err := decodeMessage(it.plain)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrRecord, it.Name)
	}
	return msg, nil
}
