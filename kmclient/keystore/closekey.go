package keystore

import (
	"context"
	"errors"
	"fmt"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keystore/internal/engine"
)

// CloseKey closes a receiving key now: here, where a tombstone stays, and at the key
// manager. If the key manager can't be reached, the error says so, and a later sweep
// closes the key there. A key that is not in the store is closed only at the key
// manager. If keys of several peers have this ID, the error is kmclient.ErrBadRequest:
// see [Store.CloseKeyFrom].
func (s *Store) CloseKey(ctx context.Context, id string) error {
	peer, err := s.peerOf(ctx, id)
	if err != nil {
		return s.fail(opClose, err)
	}
	return s.CloseKeyFrom(ctx, peer, id)
}

// peerOf returns the peer of the only key with an ID, "" if there is none or it
// does not matter.
func (s *Store) peerOf(ctx context.Context, id string) (peer string, err error) {
	if isUUID(id) || !s.km.DeletesOnDelivery() {
		return "", nil
	}
	infos, err := s.showAll(ctx, id)
	switch {
	case err != nil || len(infos) == 0:
		return "", err
	case len(infos) > 1:
		return "", fmt.Errorf("%w: keys of %d peers have the ID %s", kmclient.ErrBadRequest, len(infos), id)
	}
	return infos[0].Peer, nil
}

// CloseKeyFrom is CloseKey for the key with this ID that peer encrypted with.
func (s *Store) CloseKeyFrom(ctx context.Context, peer, id string) error {
	var k *keyRecord
	err := retry(func() (err error) {
		if k, err = s.keyRecord(ctx, peer, id); err != nil || k == nil {
			return err
		}
		if k.state == kmclient.StateClosed && !k.atKM {
			return fmt.Errorf("%w: %s", ErrClosed, id)
		}
		if k.state == kmclient.StateClosed {
			return nil
		}
		e := s.closeEdit(k)
		defer clear(e.Plain)
		if err = s.records.Apply(ctx, e); err == nil {
			s.count.closed.Add(1)
			s.records.Overwritten()
		}
		return err
	})
	switch {
	case err != nil:
		return s.fail(opClose, err)
	case k == nil:
		return s.km.CloseKey(ctx, id)
	case !k.atKM:
		return nil
	}
	if err := s.tellKM(ctx, k); err != nil {
		return s.fail(opClose, fmt.Errorf("closed here, but not yet at the key manager; a later sweep will try again: %w", err))
	}
	return s.fail(opClose, s.settle(ctx, peer, id))
}

// settle records that a key is closed at the key manager too.
func (s *Store) settle(ctx context.Context, peer, id string) error {
	k, err := s.keyRecord(ctx, peer, id)
	if err != nil || k == nil || !k.atKM {
		return err
	}
	k.atKM = false
	err = s.records.Apply(ctx, s.editKey(k, k.closed.Add(s.o.Tombstones)))
	if errors.Is(err, engine.ErrConflict) {
		return nil // a sweep was faster
	}
	return err
}
