package keystore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/internal/redact"
	"github.com/qkdmail/qkdmail/kmclient/keystore/internal/engine"
	"github.com/qkdmail/qkdmail/kmclient/keystore/internal/sealed"
)

// A flight is a fetch of keys from the key manager that is under way.
type flight struct {
	peer string
	ids  []string
	done chan struct{}

	// Set when done is closed. keys, by canonical ID, are the keys that this flight was
	// the first to store; they belong to the call that began it.
	err  error
	keys map[string]*kmclient.Key
}

// await returns the outcome of a flight, or an error once the caller stops waiting. own
// is whether the caller began the flight.
func (s *Store) await(ctx context.Context, f *flight, own bool) error {
	ctx, cancel := context.WithTimeoutCause(ctx, s.o.FetchTimeout, errLate)
	defer cancel()
	select {
	case <-f.done:
		if own && f.err != nil {
			f.wipe()
		}
		return f.err
	case <-ctx.Done():
		if own {
			go func() { // uses nothing that Close ends
				<-f.done
				f.wipe()
			}()
		}
		return kmclient.Canceled(ctx)
	}
}

// wipe clears the keys of a flight that is done.
func (f *flight) wipe() { kmclient.WipeAll(slices.Collect(maps.Values(f.keys))) }

// errLate is the cause when await's time ends.
var errLate = fmt.Errorf("the keys did not come in time: %w", os.ErrDeadlineExceeded)

// errStoreClosed: nothing is fetched any more, or nothing for this owner.
var errStoreClosed = fmt.Errorf("%w: the key store is closed", kmclient.ErrUnavailable)

// takeOff begins to fetch keys, unless one of them is being fetched already: then it
// returns that flight, and own is false. A key manager that deletes keys gives nothing
// to a second caller.
func (s *Store) takeOff(peer string, ids []string) (f *flight, own bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f = &flight{peer: peer, ids: ids, done: make(chan struct{}), keys: map[string]*kmclient.Key{}}
	if s.closed {
		f.err = errStoreClosed
		close(f.done)
		return f, false
	}
	for _, id := range ids {
		if other := s.flights[s.keyID(peer, id)]; other != nil {
			return other, false
		}
	}
	for _, id := range ids {
		s.flights[s.keyID(peer, id)] = f
	}
	// Not under the caller's context: the answer may be the only copy.
	s.work.Go(func() {
		f.err = s.fetch(context.Background(), f)
		s.mu.Lock()
		for _, id := range ids {
			delete(s.flights, s.keyID(peer, id))
		}
		s.mu.Unlock()
		close(f.done)
	})
	return f, true
}

// fetch fetches keys and stores them, as many at a time as the key manager gives in
// one request, so that those of each call are on disk before the next is made. A client
// that needs several requests for one call returns what all of them brought.
func (s *Store) fetch(ctx context.Context, f *flight) error {
	limited, cancel := context.WithTimeout(ctx, s.o.FetchTimeout)
	ids, err := s.flushFirst(limited, f.peer, f.ids)
	cancel()
	if err != nil || len(ids) == 0 {
		return err
	}
	for some := range slices.Chunk(ids, s.batch(ctx, f.peer, len(ids))) {
		keys, err := s.km.KeysByID(ctx, f.peer, some...)
		if err == nil {
			err = matches(keys, some)
		}
		if err != nil {
			s.keepArrived(f.peer, keys)
			return err
		}
		copies := copyAll(keys)
		fresh, err := s.keep(ctx, f.peer, keys)
		if err != nil || fresh < len(keys) { // some were stored before, and may have different bytes
			kmclient.WipeAll(copies)
			copies = nil
		}
		for _, k := range copies {
			f.keys[kmclient.CanonicalID(k.ID())] = k
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// copyAll returns copies of keys, which are wiped separately.
func copyAll(keys []*kmclient.Key) []*kmclient.Key {
	copies := make([]*kmclient.Key, len(keys))
	for i, k := range keys {
		copies[i] = kmclient.NewKey(k.ID(), bytes.Clone(k.Reveal()))
	}
	return copies
}

// A limit is the Status.MaxKeyPerRequest of a key manager.
type limit struct {
	keys  int
	until time.Time // when it is asked for again
}

const (
	limitAge   = time.Minute // how long a limit is trusted
	limitPeers = 256         // peers whose limits are remembered
)

// batch returns how many of number keys to ask for at a time.
func (s *Store) batch(ctx context.Context, peer string, number int) int {
	if number == 1 || !s.km.DeletesOnDelivery() {
		return number
	}
	s.mu.Lock()
	l := s.limits[peer]
	s.mu.Unlock()
	if time.Now().After(l.until) {
		ctx, cancel := context.WithTimeout(ctx, s.o.FetchTimeout)
		status, err := s.km.Status(ctx, peer)
		cancel()
		if err != nil { // the key manager may still give keys: ask for one at a time
			status.MaxKeyPerRequest = 1
		}
		l = limit{status.MaxKeyPerRequest, time.Now().Add(limitAge)}
		s.mu.Lock()
		if len(s.limits) >= limitPeers {
			clear(s.limits)
		}
		s.limits[peer] = l
		s.mu.Unlock()
	}
	if l.keys > 0 {
		return min(l.keys, number)
	}
	return number
}

// keepArrived stores keys that came with an error, each under the ID that it came
// with, since the key manager may have deleted them. A key that is unusable is wiped.
func (s *Store) keepArrived(peer string, keys []*kmclient.Key) {
	var usable []*kmclient.Key
	seen := map[string]bool{}
	for _, k := range keys {
		id := kmclient.CanonicalID(k.ID())
		err := checkKey(k)
		if err == nil && seen[id] {
			err = fmt.Errorf("%w: key %s came twice", kmclient.ErrBadKey, redact.ID(k.ID()))
		}
		if err != nil {
			s.o.Logger.Error("a key that came with an error is not kept", "peer", peer, "error", err)
			k.Wipe()
			continue
		}
		seen[id] = true
		usable = append(usable, k)
	}
	if len(usable) > 0 {
		_, _ = s.keep(context.Background(), peer, usable) // keep logs what it can't store
	}
}

// keep stores keys that came for peer, wipes them, and returns how many were new. If
// they can't be stored, they wait in memory. Keys whose IDs were already used are
// refused with ErrClaimed, and the others are stored.
func (s *Store) keep(ctx context.Context, peer string, keys []*kmclient.Key) (fresh int, err error) {
	// The time that the key manager took does not count against the store.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.o.FetchTimeout)
	defer cancel()
	fresh, err = s.store(ctx, peer, keys)
	if err == nil || errors.Is(err, ErrClaimed) {
		s.count.fetched.Add(int64(fresh))
		kmclient.WipeAll(keys)
		return fresh, err
	}
	if all, ok := s.hold(peer, keys); ok {
		s.o.Logger.Error("keys were fetched and can't be stored; they wait in memory", "keys", len(keys), "waiting", all, "error", err)
	} else {
		s.o.Logger.Error("keys came after the key store was closed; they are lost", "keys", len(keys), "peer", peer)
	}
	return 0, err
}

// matches returns an error unless keys are those that were asked for, and usable.
func matches(keys []*kmclient.Key, ids []string) error {
	if err := kmclient.CheckKeys(keys, 0, len(ids)); err != nil {
		return err
	}
	for i, k := range keys {
		if kmclient.CanonicalID(k.ID()) != kmclient.CanonicalID(ids[i]) {
			return fmt.Errorf("%w: asked for key %s and got another", kmclient.ErrBadKey, ids[i])
		}
		if err := checkSize(k); err != nil {
			return err
		}
	}
	return nil
}

// checkKey reports whether a key can be stored.
func checkKey(k *kmclient.Key) error {
	if err := kmclient.CheckKeys([]*kmclient.Key{k}, 0, 1); err != nil {
		return err
	}
	return checkSize(k)
}

// checkSize reports whether a key is small enough to be stored.
func checkSize(k *kmclient.Key) error {
	if k.Size() > maxKeySize {
		return fmt.Errorf("%w: key %s of %d bits: can store %d", kmclient.ErrBadKey, redact.ID(k.ID()), k.Size(), maxKeySize)
	}
	return nil
}

// store stores keys that came for peer, and returns how many were new. A key that is
// there already stays as it is: everyone gets the key that was stored first. Keys whose
// IDs were already used are not stored: once all others are, the error is ErrClaimed.
func (s *Store) store(ctx context.Context, peer string, keys []*kmclient.Key) (n int, err error) {
	// Usually a look has just failed to find them. If they are there now, that is a
	// conflict.
	if n, err = s.storeNew(ctx, peer, keys); !errors.Is(err, engine.ErrConflict) {
		return n, err
	}
	ids := make([]string, len(keys))
	for i, k := range keys {
		ids[i] = k.ID()
	}
	var refused []string
	err = retry(func() error {
		present, claimed, err := s.known(ctx, peer, ids)
		if err != nil {
			return err
		}
		defer wipeRecords(present)
		refused = claimed
		var missing []*kmclient.Key
		for i, k := range keys {
			switch {
			case present[i] != nil:
				s.compare(peer, k, present[i])
			case !slices.Contains(claimed, k.ID()):
				missing = append(missing, k)
			}
		}
		more, err := s.storeNew(ctx, peer, missing)
		n += more
		return err
	})
	if err == nil && len(refused) > 0 {
		err = s.refuseClaimed(peer, refused)
	}
	return n, err
}

// compare raises the alarm if a key came again with different bytes.
func (s *Store) compare(peer string, k *kmclient.Key, present *keyRecord) {
	if present.state == kmclient.StateClosed || bytes.Equal(present.bytes, k.Reveal()) {
		return
	}
	s.count.changed.Add(1)
	s.o.Logger.Error("the key manager gave out a key with other bytes than before; it is not used",
		"alarm", "changed", "key_id", k.ID(), "peer", peer)
}

// storeNew stores keys that have no records yet, and claims their IDs.
func (s *Store) storeNew(ctx context.Context, peer string, keys []*kmclient.Key) (n int, err error) {
	edits := make([]sealed.Edit, 0, len(keys))
	defer func() { sealed.WipeEdits(edits) }()
	for _, k := range keys {
		r := newKeyRecord(peer, k, s.clock.late())
		e := s.editKey(r, s.dueUnused(r))
		e.Hand = true // over to BindKeys
		edits = append(edits, e)
		r.wipe()
	}
	n, err = s.records.ApplySome(ctx, edits)
	s.count.stored.Add(int64(n))
	return n, err
}
