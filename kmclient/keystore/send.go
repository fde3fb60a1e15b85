package keystore

import (
	"context"
	"errors"
	"fmt"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keystore/internal/engine"
	"github.com/qkdmail/qkdmail/kmclient/keystore/internal/sealed"
)

// GetKeys fetches sending keys. Their IDs are claimed on disk before they are returned,
// in one commit if the engine accepts so many; their bytes are never stored. If one of
// the IDs is already claimed, by a sending or a receiving key, the error is ErrReused,
// counted and logged as an alarm, and all keys of the call are wiped: the key manager
// may have been restored from a backup. The next call may get fresh keys.
func (s *Store) GetKeys(ctx context.Context, peer string, size, number int) ([]*kmclient.Key, error) {
	s.mu.Lock()
	closed := s.closed
	s.mu.Unlock()
	if closed {
		return nil, s.fail(opGetKeys, errStoreClosed)
	}
	if err := s.probe(ctx); err != nil {
		return nil, s.fail(opGetKeys, err)
	}
	keys, err := s.km.GetKeys(ctx, peer, size, number)
	if err != nil {
		kmclient.WipeAll(keys)
		return nil, err
	}
	if err = kmclient.CheckFresh(keys, size, number); err == nil {
		err = s.claim(ctx, peer, keys)
		s.unsure.Store(err != nil && !errors.Is(err, ErrReused))
	}
	if err != nil {
		kmclient.WipeAll(keys)
		return nil, s.fail(opGetKeys, err)
	}
	return keys, nil
}

// probe returns an error if a claim can't be stored: because the store key was changed
// or, if the last claim could not be stored, because nothing can be written. Otherwise
// every attempt would cost keys until the store works again.
func (s *Store) probe(ctx context.Context) error {
	if !s.unsure.Load() {
		return s.records.Ready(ctx)
	}
	return s.write(ctx)
}

// CheckStore writes something to the store, and returns an error if it can't. It is for
// monitoring; Stats does not count it.
func (s *Store) CheckStore(ctx context.Context) error { return s.write(ctx) }

// write writes a record without content.
func (s *Store) write(ctx context.Context) error {
	name := s.name(engine.Store, "probe")
	records, err := s.records.Engine.Get(ctx, name)
	if err != nil {
		return err
	}
	err = s.records.Apply(ctx, sealed.Edit{Old: records[0], Name: name, Bare: true})
	if errors.Is(err, engine.ErrConflict) {
		return nil // another process could write, so this one can
	}
	return err
}

// claim claims the IDs of sending keys. If the outcome of a commit is unknown, its keys
// are lost: a call never counts a claim as its own unless it saw it made.
func (s *Store) claim(ctx context.Context, peer string, keys []*kmclient.Key) error {
	edits := make([]sealed.Edit, len(keys))
	for i, k := range keys {
		edits[i] = sealed.Edit{Name: s.claimName(peer, k.ID()), Bare: true}
	}
	made, err := s.records.ApplySome(ctx, edits)
	s.count.claimed.Add(int64(made))
	if !errors.Is(err, engine.ErrConflict) {
		return err
	}
	var names []engine.Name // without those that this call claimed
	for _, e := range edits[made:] {
		names = append(names, e.Name)
	}
	records, err := s.records.Engine.Get(ctx, names...)
	if err != nil {
		return err
	}
	var again []string
	for i, r := range records {
		if r != nil {
			again = append(again, keys[made+i].ID())
		}
	}
	if len(again) == 0 {
		return fmt.Errorf("%w: a claim was there and is not there now", engine.ErrConflict)
	}
	s.count.reused.Add(int64(len(again)))
	s.o.Logger.Error("the key manager gave out key IDs to encrypt with that were already used here; it may have been restored from a backup; none of the keys is used",
		"alarm", "reused", "key_ids", again[:min(len(again), 5)], "number", len(again), "peer", peer)
	return fmt.Errorf("%w: %d of %d, as %.255s", ErrReused, len(again), len(keys), again[0])
}

// Claimed reports whether the key with this ID was claimed here to encrypt for peer or,
// if the ID is a UUID, for any peer. It is also true for a receiving key whose
// tombstone is gone.
func (s *Store) Claimed(ctx context.Context, peer, id string) (bool, error) {
	if kmclient.CheckID(id) != nil {
		return false, nil
	}
	records, err := s.records.Engine.Get(ctx, s.claimName(peer, id), s.keyName(peer, id))
	if err != nil {
		return false, s.fail(opGetKeys, err)
	}
	return records[0] != nil && records[1] == nil, nil
}
