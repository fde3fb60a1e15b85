package keystore

import (
	"context"
	"fmt"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keystore/internal/sealed"
)

// BindKeys records that a part of a message was verified under these keys: from now on
// they belong to it. Binding them again to the same message and frame is not an error.
// If a key is bound to another message or frame, the error is ErrBound, counted and
// logged as an alarm. Then none of the keys is newly bound, unless binding takes
// several commits and the other message came between two of them.
func (s *Store) BindKeys(ctx context.Context, peer string, identity kmclient.Identity, frame uint64, ids ...string) error {
	err := kmclient.CheckIDs(ids)
	if err == nil {
		err = s.change(func(handed bool) error { return s.bind(ctx, handed, peer, identity, frame, ids) })
	}
	return s.fail(opBind, err)
}

func (s *Store) bind(ctx context.Context, handed bool, peer string, identity kmclient.Identity, frame uint64, ids []string) error {
	items, err := s.read(ctx, handed, s.keyNames(peer, ids)...)
	if err != nil {
		return err
	}
	records, err := asKeys(items, ids)
	if err != nil {
		return err
	}
	defer wipeRecords(records)
	var edits []sealed.Edit
	defer func() { sealed.WipeEdits(edits) }()
	now := s.clock.late()
	for i, k := range records {
		if handed && (k == nil || k.peer != peer || k.state != kmclient.StateInUse) {
			return sealed.ErrNotHanded // read the store before anything is refused or left as it is
		}
		if k == nil {
			return fmt.Errorf("%w: %s: it is not in the store", kmclient.ErrKeyNotFound, ids[i])
		}
		if s.contested(k, peer) {
			k.peer = peer // a message from peer was verified under it
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
	if handed && s.records.Fit(edits) < len(edits) {
		return sealed.ErrNotHanded // else some would be bound before the store refuses others
	}
	if err := s.records.Apply(ctx, edits...); err != nil {
		return err
	}
	s.count.bound.Add(int64(len(edits)))
	return nil
}
