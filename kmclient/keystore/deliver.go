package keystore

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/kmclient"
)

// Delivered reports, in the order of rcpts, which of them have got the message
// that a key belongs to: they must not get it again. keyID is any key of the
// message, as the one that its control part names; a closed one will do, and
// for one that is unknown or bound to no message nobody has. If the key is closed
// and one of them has not got it, that is counted and logged as an alarm: it is
// no mail system that tries once more. If the message would have more than
// MaxRecipients, the error is a kmclient.ErrBadRequest.
func (m *Manager) Delivered(ctx context.Context, keyID string, rcpts ...string) ([]bool, error) {
	has := make([]bool, len(rcpts))
	// The message that a key belongs to stays the same.
	k, err := m.keyRecord(ctx, asSeen, keyID)
	if errors.Is(err, errNotSeen) || err == nil && !k.bound() {
		k.wipe()
		k, err = m.keyRecord(ctx, asStored, keyID)
	}
	if err != nil {
		return nil, m.fail(opDeliver, err)
	}
	if k == nil {
		return has, nil
	}
	defer k.wipe()
	if k.bound() {
		msg, _, err := m.message(ctx, asStored, k.identity)
		if err != nil {
			return nil, m.fail(opDeliver, err)
		}
		left := 0
		for i, rcpt := range rcpts {
			if has[i] = msg.has(m.vault.recipient(k.identity[:], rcpt)); !has[i] {
				left++
			}
		}
		if msg != nil && left > 0 && len(msg.rcpts)+left > MaxRecipients {
			return nil, m.fail(opDeliver, fmt.Errorf("%w: more than %d recipients of one message", kmclient.ErrBadRequest, MaxRecipients))
		}
	}
	if k.state == kmclient.StateClosed && slices.Contains(has, false) {
		m.count.closedRefused.Add(1)
		m.o.Logger.Error("a message came under a closed key, for somebody who has not got it; it may be a replay",
			"alarm", "closed", "key_id", k.spelled, "peer", k.peer)
	}
	return has, nil
}

// RecordDelivered records that these have got the message that a key belongs
// to. It is to be called after the next hop's 250 and before one's own: if it
// fails, the message is refused for now and may be delivered a second time.
// Recording somebody twice is no error. Those beyond MaxRecipients, whom
// Delivered has let pass at the same time as others, are logged and not recorded.
func (m *Manager) RecordDelivered(ctx context.Context, keyID string, rcpts ...string) error {
	return m.fail(opDeliver, change(func(from view) error { return m.recordDelivered(ctx, from, keyID, rcpts) }))
}

func (m *Manager) recordDelivered(ctx context.Context, from view, keyID string, rcpts []string) error {
	k, err := m.keyRecord(ctx, from, keyID)
	if err != nil {
		return err
	}
	defer k.wipe()
	switch {
	case k.bound():
	case from == asSeen:
		return errNotSeen
	case k == nil:
		return fmt.Errorf("%w: %s: it is not in the store", kmclient.ErrKeyNotFound, keyID)
	default:
		return fmt.Errorf("%w: %s", ErrNotBound, keyID)
	}
	msg, old, err := m.message(ctx, from, k.identity)
	if err != nil {
		return err
	}
	now := m.clock.late()
	if msg == nil {
		msg = &messageRecord{first: now}
	}
	before := len(msg.rcpts)
	for _, rcpt := range rcpts {
		if sum := m.vault.recipient(k.identity[:], rcpt); !msg.has(sum) {
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
		m.o.Logger.Warn("a message has got to more recipients than can be recorded; the last may get it twice",
			"key_id", k.spelled, "recipients", len(msg.rcpts), "most", MaxRecipients)
		msg.rcpts = msg.rcpts[:MaxRecipients]
		n = MaxRecipients - before
	}
	msg.last = now
	err = m.vault.apply(ctx, edit{
		old: old, name: m.messageName(k.identity), plain: msg.encode(),
		due: m.o.Close.dueMessage(now, m.o.Tombstones),
	})
	if err == nil {
		m.count.delivered.Add(int64(n))
	}
	return err
}

// keyRecord returns what is known of one key, nil if nothing is.
func (m *Manager) keyRecord(ctx context.Context, from view, id string) (*keyRecord, error) {
	if err := kmclient.CheckID(id); err != nil {
		return nil, fmt.Errorf("%w: %w", kmclient.ErrBadRequest, err)
	}
	records, err := m.keyRecords(ctx, from, []string{id})
	if err != nil {
		return nil, err
	}
	return records[0], nil
}

func (m *Manager) messageName(identity cipher.Identity) Name {
	return m.name(KindMessage, hex.EncodeToString(identity[:]))
}

// message returns who has got a message, nil if nobody has, and the record that
// says so.
func (m *Manager) message(ctx context.Context, from view, identity cipher.Identity) (*messageRecord, *Record, error) {
	items, err := m.vault.get(ctx, from, m.messageName(identity))
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
