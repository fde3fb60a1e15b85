package keystore

import (
	"context"
	"encoding/hex"
	"errors"
	"iter"
	"time"

	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/kmclient"
)

// An Info describes a receiving key without its octets. Times that have not
// come are zero.
type Info struct {
	kmclient.KeyInfo           // Time is that of Stored
	Peer             string    // SAE ID of the sender
	Stored           time.Time // when it came
	InUse            time.Time // when it was handed out to decrypt
	Used             time.Time // when a message was verified under it, which it belongs to since
	Closed           time.Time
	Message          string // identity of that message, in hexadecimal
	Frame            uint64 // of that message

	Delivered  time.Time // when the message was delivered first; Show only
	Recipients int       // who have got it; Show only
}

func (k *keyRecord) info() Info {
	i := Info{
		KeyInfo: kmclient.KeyInfo{ID: k.spelled, Size: k.size, Time: k.stored, State: k.state},
		Peer:    k.peer, Stored: k.stored, InUse: k.inUse, Used: k.used, Closed: k.closed, Frame: k.frame,
	}
	if k.identity != (cipher.Identity{}) {
		i.Message = hex.EncodeToString(k.identity[:])
	}
	return i
}

// List iterates over the receiving keys of this key manager and SAE, closed
// ones included, in the order of their canonical IDs. One that is damaged comes
// with its ID and an ErrRecord, and the others follow; any other error ends it.
func (m *Manager) List(ctx context.Context) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		stop := errors.New("stop")
		start := m.name(KindReceive, "")
		within := func(n Name) bool { n.ID = ""; return n == start }
		err := m.vault.each(ctx, start, within, func(r *Record, it *item, err error) error {
			info := Info{KeyInfo: kmclient.KeyInfo{ID: r.ID}}
			if err == nil {
				var k *keyRecord
				if k, err = it.asKey(); err == nil {
					info = k.info()
					k.wipe()
				}
			}
			if !yield(info, m.fail(opList, err)) {
				return stop
			}
			return nil
		})
		if err != nil && err != stop {
			yield(Info{}, m.fail(opList, err))
		}
	}
}

// ListKeys returns the receiving keys that are kept, in the order of their
// canonical IDs.
func (m *Manager) ListKeys(ctx context.Context) (infos []kmclient.KeyInfo, err error) {
	for info, err := range m.List(ctx) {
		if err != nil {
			return nil, err
		}
		if info.State != kmclient.StateClosed {
			infos = append(infos, info.KeyInfo)
		}
	}
	return infos, nil
}

// Show describes one receiving key and what was delivered of its message. A key
// that is not here is a kmclient.ErrKeyNotFound.
func (m *Manager) Show(ctx context.Context, id string) (Info, error) {
	k, err := m.keyRecord(ctx, id)
	if err == nil && k == nil {
		err = kmclient.ErrKeyNotFound
	}
	if err != nil {
		return Info{}, m.fail(opList, err)
	}
	defer k.wipe()
	info := k.info()
	if k.used.IsZero() {
		return info, nil
	}
	msg, _, err := m.message(ctx, k.identity)
	if msg != nil {
		info.Delivered, info.Recipients = msg.first, len(msg.rcpts)
	}
	return info, m.fail(opList, err)
}
