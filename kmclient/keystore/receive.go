package keystore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keystore/internal/engine"
	"github.com/qkdmail/qkdmail/kmclient/keystore/internal/sealed"
)

// KeysByID returns receiving keys: those in the store from there, the others
// from the key manager. What came from the key manager is on disk, and its ID
// claimed, before it is returned, and before an error is: in one commit if the
// engine takes so many keys. A key manager that deletes keys is asked for no more
// at a time than its Status says it gives in one request, or for one if its Status
// can't be read, and what it gave is on disk before it is asked again.
//
// If a key is closed, the error is an ErrClosed. If an ID is claimed and has no
// record, it has had its use: the error is an ErrClaimed, the key manager is not
// asked, and it is counted and logged as an alarm. If a key came and can't be
// stored, it waits in memory until it can, and no other is fetched before that; the
// error is then a kmclient.ErrStore, and trying again helps. A caller that gives up
// loses nothing.
func (s *Store) KeysByID(ctx context.Context, peer string, ids ...string) ([]*kmclient.Key, error) {
	err := kmclient.CheckIDs(ids)
	if err == nil && len(peer) > kmclient.MaxIDLength {
		err = fmt.Errorf("%w: an SAE ID of %d bytes", kmclient.ErrBadRequest, len(peer))
	}
	if err != nil {
		return nil, s.fail(opKeysByID, err)
	}
	keys := make(map[string]*kmclient.Key, len(ids)) // by ID as asked
	err = s.collect(ctx, peer, ids, keys)
	result := make([]*kmclient.Key, 0, len(ids))
	for _, id := range ids {
		if k := keys[id]; k != nil {
			result = append(result, k)
		}
	}
	if err == nil {
		err = kmclient.CheckKeys(result, 0, len(ids))
	}
	if err != nil {
		kmclient.WipeAll(result)
		return nil, s.fail(opKeysByID, err)
	}
	return result, nil
}

// collect adds the keys with these IDs to keys.
func (s *Store) collect(ctx context.Context, peer string, ids []string, keys map[string]*kmclient.Key) error {
	missing, err := s.look(ctx, peer, ids, keys)
	s.count.fromStore.Add(int64(len(keys)))
	for err == nil && len(missing) > 0 {
		f, own := s.takeOff(peer, missing)
		err = s.await(ctx, f, own)
		same := f.peer == peer && slices.Equal(f.ids, missing)
		switch {
		case same && errors.Is(err, kmclient.ErrKeyNotFound):
			missing, err = s.foundSince(ctx, peer, missing, keys, err)
			continue
		case !same && !errors.Is(err, kmclient.ErrUnavailable) && !errors.Is(err, kmclient.ErrStore):
			err = nil // it was about other keys
		}
		if err == nil && own {
			missing = f.unload(missing, keys)
		}
		if err == nil && len(missing) > 0 {
			missing, err = s.look(ctx, peer, missing, keys)
		}
	}
	return err
}

// unload adds the keys of a flight to keys, and returns the IDs of the others. The
// store need not be read for them: they were new there during the call.
func (f *flight) unload(ids []string, keys map[string]*kmclient.Key) (missing []string) {
	for _, id := range ids {
		if k := f.keys[kmclient.CanonicalID(id)]; k != nil {
			keys[id] = kmclient.NewKey(id, k.Reveal())
		} else {
			missing = append(missing, id)
		}
	}
	return missing
}

// look adds the keys that are in the store to keys, and returns the IDs of the
// others. An ID that has had its use is an ErrClaimed.
func (s *Store) look(ctx context.Context, peer string, ids []string, keys map[string]*kmclient.Key) (missing []string, err error) {
	records, err := s.unclaimed(ctx, peer, ids)
	if err != nil {
		return nil, err
	}
	defer wipeRecords(records)
	if err := s.confirm(ctx, peer, records); err != nil {
		return nil, err
	}
	for _, k := range records {
		if k == nil {
			continue
		}
		if err := s.usable(k, peer); err != nil {
			return nil, err
		}
	}
	for i, k := range records {
		if k == nil {
			missing = append(missing, ids[i])
			continue
		}
		keys[ids[i]] = k.key(ids[i])
	}
	return missing, nil
}

// contested reports whether a key that was fetched for another peer may be this one's:
// it has opened no message. Where a key manager binds no key to a pair of SAEs, any
// rubbish that names a key has it fetched for the peer that it claims to be from. A key
// manager that deletes what it gives out can't be asked again.
func (s *Store) contested(k *keyRecord, peer string) bool {
	return k.peer != peer && k.state == kmclient.StateInUse && !s.km.DeletesOnDelivery()
}

// confirm asks the key manager for those of records, some of which may be nil, that
// are contested, and makes them peer's where it gives out the same bytes. The store
// records that once they belong to a message.
func (s *Store) confirm(ctx context.Context, peer string, records []*keyRecord) error {
	var contested []*keyRecord
	var ids []string
	for _, k := range records {
		if k != nil && s.contested(k, peer) {
			contested, ids = append(contested, k), append(ids, k.spelled)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.o.FetchTimeout)
	defer cancel()
	keys, err := s.km.KeysByID(ctx, peer, ids...)
	defer kmclient.WipeAll(keys) // in the store they are already
	if err != nil {
		return err
	}
	if err := matches(keys, ids); err != nil {
		return err
	}
	for i, k := range contested {
		if bytes.Equal(k.bytes, keys[i].Reveal()) {
			k.peer = peer
		}
	}
	return nil
}

// usable returns an error if a key is not for a message from peer, or closed.
func (s *Store) usable(k *keyRecord, peer string) error {
	switch {
	case k.peer != peer:
		return fmt.Errorf("%w: %s from %q: it is another peer's", kmclient.ErrKeyNotFound, k.spelled, peer)
	case k.state == kmclient.StateClosed:
		return fmt.Errorf("%w: %s, since %s", ErrClosed, k.spelled, k.closed.UTC().Format(time.RFC3339))
	}
	return nil
}

// known returns the records of keys, nil for one that has none, and those IDs
// that are claimed without a record.
func (s *Store) known(ctx context.Context, peer string, ids []string) (records []*keyRecord, claimed []string, err error) {
	names := make([]engine.Name, 0, 2*len(ids))
	for _, id := range ids {
		names = append(names, s.claimName(peer, id), s.keyName(peer, id)) // a claim is read before the record that came with it
	}
	items, err := s.records.GetReady(ctx, names...)
	if err != nil {
		return nil, nil, err
	}
	keys := make([]*sealed.Item, len(ids))
	for i := range ids {
		keys[i] = items[2*i+1]
	}
	if records, err = asKeys(keys, ids); err != nil {
		return nil, nil, err
	}
	for i, k := range records {
		if k == nil && items[2*i] != nil {
			claimed = append(claimed, ids[i])
		}
	}
	return records, claimed, nil
}

// unclaimed is known, with an ErrClaimed and an alarm for IDs that are claimed without a
// record.
func (s *Store) unclaimed(ctx context.Context, peer string, ids []string) ([]*keyRecord, error) {
	records, claimed, err := s.known(ctx, peer, ids)
	if err == nil && len(claimed) > 0 {
		wipeRecords(records)
		return nil, s.refuseClaimed(peer, claimed)
	}
	return records, err
}

// refuseClaimed raises the alarm for keys to decrypt with whose IDs have had their
// use, and returns the error.
func (s *Store) refuseClaimed(peer string, ids []string) error {
	s.count.reused.Add(int64(len(ids)))
	s.o.Logger.Error("a key was refused: its ID was already used here; a message may name a key that was sent with, or the key manager was restored from a backup",
		"alarm", "reused", "key_ids", ids[:min(len(ids), 5)], "number", len(ids), "peer", peer)
	return fmt.Errorf("%w: %.255s", ErrClaimed, ids[0])
}

// foundSince looks in the store once more for keys that the key manager does not
// have: another relay may have been faster. It returns those that are still to be
// fetched, or the error failed if none has come.
func (s *Store) foundSince(ctx context.Context, peer string, missing []string, keys map[string]*kmclient.Key, failed error) ([]string, error) {
	if !s.km.DeletesOnDelivery() {
		return nil, failed
	}
	for _, pause := range []time.Duration{0, 100 * time.Millisecond, 400 * time.Millisecond} {
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, failed
		}
		left, err := s.look(ctx, peer, missing, keys)
		if err != nil || len(left) < len(missing) {
			return left, err
		}
	}
	return nil, failed
}
