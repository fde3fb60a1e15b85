package keystore

import (
	"context"
	"fmt"
	"time"

	"github.com/qkdmail/qkdmail/kmclient"
)

// editKey is the edit that stores a key record, a new one with its claim.
func (m *Manager) editKey(k *keyRecord, due time.Time) edit {
	e := edit{old: k.raw, due: due}
	if k.raw != nil {
		e.name = k.raw.Name
	} else {
		e.name, e.claim = m.keyName(k.peer, k.spelled), m.claimName(k.peer, k.spelled)
	}
	e.state, e.plain = k.encode()
	return e
}

// BindKeys says that a part of a message was verified under these keys: they
// belong to it from now on. Once more for the same message and frame is no
// error, also at the same time; for another one it is an ErrBound, which is
// counted and logged as an alarm. None of the keys is bound anew then, unless they
// take several commits and the other message came between two of them.
func (m *Manager) BindKeys(ctx context.Context, peer string, identity kmclient.Identity, frame uint64, ids ...string) error {
	err := checkIDs(ids)
	if err == nil {
		err = change(func(from view) error { return m.bind(ctx, from, peer, identity, frame, ids) })
	}
	return m.fail(opBind, err)
}

func (m *Manager) bind(ctx context.Context, from view, peer string, identity kmclient.Identity, frame uint64, ids []string) error {
	records, err := m.keyRecords(ctx, from, peer, ids)
	if err != nil {
		return err
	}
	defer wipeRecords(records)
	var edits []edit
	defer func() { wipeEdits(edits) }()
	now := m.clock.late()
	for i, k := range records {
		if from == asSeen && (k == nil || k.peer != peer || k.state != kmclient.StateInUse) {
			return errNotSeen // nothing is refused or left as it is without a look
		}
		if k == nil {
			return fmt.Errorf("%w: %s: it is not in the store", kmclient.ErrKeyNotFound, ids[i])
		}
		if m.contested(k, peer) {
			k.peer = peer // a message from there was verified under it
		}
		if err := m.usable(k, peer); err != nil {
			return err
		}
		if k.state == kmclient.StateUsed {
			if k.identity == identity && k.frame == frame {
				continue
			}
			return m.refuseBound(peer, k)
		}
		k.state, k.used, k.identity, k.frame = kmclient.StateUsed, now, identity, frame
		edits = append(edits, m.editKey(k, m.o.Close.dueUsed(now)))
	}
	if from == asSeen && m.vault.fit(edits) < len(edits) {
		return errNotSeen // some would be bound before the store refuses others
	}
	if err := m.vault.apply(ctx, edits...); err != nil {
		return err
	}
	for _, e := range edits {
		m.vault.recent.bind(e.name, identity)
	}
	m.count.bound.Add(int64(len(edits)))
	return nil
}
