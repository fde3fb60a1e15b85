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

// KeysByID returns receiving keys, from the store or else from the key manager. Keys
// from the key manager are on disk, and their IDs claimed, before they or an error are
// returned: in one commit if the engine accepts so many keys. A key manager that
// deletes keys is asked for no more at a time than its Status says it gives in one
// request, or for one if its Status can't be read, and its keys are on disk before it
// is asked again.
//
// If a key is closed, the error is ErrClosed. If an ID is claimed and has no record, it
// was already used: the error is ErrClaimed, counted and logged as an alarm, and the
// key manager is not asked. If a key arrived but can't be stored, it waits in memory
// until it can be, and no other key is fetched before that; the error is then
// kmclient.ErrStore, and trying again helps. A caller that gives up loses nothing.
func (s *Store) KeysByID(ctx context.Context, peer string, ids ...string) ([]*kmclient.Key, error) {
	err := kmclient.CheckIDs(ids)
	if err == nil && len(peer) > kmclient.MaxIDLength {
		err = fmt.Errorf("%w: an SAE ID of %d bytes", kmclient.ErrBadRequest, len(peer))
	}
	if err != nil {
		return nil, s.fail(opKeysByID, err)
	}
	keys := make(map[string]*kmclient.Key, len(ids)) // by ID, as asked for
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
			err = nil // the error was about other keys
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

// unload adds the keys of a flight to keys, and returns the IDs of the others. There is
// no need to read the store for them: they were new there during the call.
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

// look adds the keys that are in the store to keys, and returns the IDs of the others.
// If an ID was already used, the error is ErrClaimed.
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

// contested reports whether a key that was fetched for another peer may be this peer's:
// it has opened no message. If a key manager binds no key to a pair of SAEs, any
// rubbish message that names a key makes the store fetch it for the peer that the
// message claims to be from. A key manager that deletes what it gives out can't be
// asked again.
func (s *Store) contested(k *keyRecord, peer string) bool {
	return k.peer != peer && k.state == kmclient.StateInUse && !s.km.DeletesOnDelivery()
}

// confirm asks the key manager for the contested keys among records, some of which may
// be nil, and makes a key peer's if it gets the same bytes. The store records this once
// the key belongs to a message.
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
	defer kmclient.WipeAll(keys) // they are already in the store
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

// usable returns an error if a key is not for messages from peer, or is closed.
func (s *Store) usable(k *keyRecord, peer string) error {
	switch {
	case k.peer != peer:
		return fmt.Errorf("%w: %s from %q: it is another peer's", kmclient.ErrKeyNotFound, k.spelled, peer)
	case k.state == kmclient.StateClosed:
		return fmt.Errorf("%w: %s, since %s", ErrClosed, k.spelled, k.closed.UTC().Format(time.RFC3339))
	}
	return nil
}

// known returns the records of keys, with nil for a key that has none, and the IDs that
// are claimed but have no record.
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

// unclaimed is known, with ErrClaimed and an alarm for IDs that are claimed but have no
// record.
func (s *Store) unclaimed(ctx context.Context, peer string, ids []string) ([]*keyRecord, error) {
	records, claimed, err := s.known(ctx, peer, ids)
	if err == nil && len(claimed) > 0 {
		wipeRecords(records)
		return nil, s.refuseClaimed(peer, claimed)
	}
	return records, err
}

// refuseClaimed raises the alarm for receiving keys whose IDs were already used, and
// returns the error.
func (s *Store) refuseClaimed(peer string, ids []string) error {
	s.count.reused.Add(int64(len(ids)))
	s.o.Logger.Error("a key was refused: its ID was already used here; a message may name a key that was sent with, or the key manager was restored from a backup",
		"alarm", "reused", "key_ids", ids[:min(len(ids), 5)], "number", len(ids), "peer", peer)
	return fmt.Errorf("%w: %.255s", ErrClaimed, ids[0])
}

// foundSince looks again in the store for keys that the key manager does not have:
// another relay may have been faster. It returns the IDs still to be fetched, or the
// error failed if no key was found.
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
