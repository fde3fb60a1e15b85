package keystore

import (
	"context"
	"fmt"
	"time"

	"github.com/qkdmail/qkdmail/kmclient"
)

// editKey is the edit that stores a key record, a new one with its claim.
func (s *Store) editKey(k *keyRecord, due time.Time) edit {
	e := edit{old: k.raw, due: due}
	if k.raw != nil {
		e.name = k.raw.Name
	} else {
		e.name, e.claim = s.keyName(k.peer, k.spelled), s.claimName(k.peer, k.spelled)
	}
	e.state, e.plain = k.encode()
	return e
}

// BindKeys says that a part of a message was verified under these keys: they
// belong to it from now on. Once more for the same message and frame is no
// error, also at the same time; for another one it is an ErrBound, which is
// counted and logged as an alarm. None of the keys is bound anew then, unless they
// take several commits and the other message came between two of them.
func (s *Store) BindKeys(ctx context.Context, peer string, identity kmclient.Identity, frame uint64, ids ...string) error {
	err := kmclient.CheckIDs(ids)
	if err == nil {
		err = change(func(from view) error { return s.bind(ctx, from, peer, identity, frame, ids) })
	}
	return s.fail(opBind, err)
}

func (s *Store) bind(ctx context.Context, from view, peer string, identity kmclient.Identity, frame uint64, ids []string) error {
	records, err := s.keyRecords(ctx, from, peer, ids)
	if err != nil {
		return err
	}
	defer wipeRecords(records)
	var edits []edit
	defer func() { wipeEdits(edits) }()
	now := s.clock.late()
	for i, k := range records {
		if from == asSeen && (k == nil || k.peer != peer || k.state != kmclient.StateInUse) {
			return errNotSeen // nothing is refused or left as it is without a look
		}
		if k == nil {
			return fmt.Errorf("%w: %s: it is not in the store", kmclient.ErrKeyNotFound, ids[i])
		}
		if s.contested(k, peer) {
			k.peer = peer // a message from there was verified under it
		}
		if err := s.usable(k, peer); err != nil {
			return err
		}
		if k.state == kmclient.StateUsed {
			if k.identity == identity && k.frame == frame {
				continue
			}
			return s.refuseBound(peer, k)
		}
		k.state, k.used, k.identity, k.frame = kmclient.StateUsed, now, identity, frame
		edits = append(edits, s.editKey(k, s.o.Close.dueUsed(now)))
	}
	if from == asSeen && s.sealed.fit(edits) < len(edits) {
		return errNotSeen // some would be bound before the store refuses others
	}
	if err := s.sealed.apply(ctx, edits...); err != nil {
		return err
	}
	for _, e := range edits {
		s.sealed.recent.bind(e.name, identity)
	}
	s.count.bound.Add(int64(len(edits)))
	return nil
}
