package keystore

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/qkdmail/qkdmail/kmclient"
)

// A flight is a fetch of keys from the key manager that is under way.
type flight struct {
	peer string
	ids  []string
	done chan struct{}
	err  error // once done is closed
}

// await returns the outcome of a flight, or that the caller has given up.
func (f *flight) await(ctx context.Context) error {
	select {
	case <-f.done:
		return f.err
	case <-ctx.Done():
		return kmclient.GaveUp(ctx)
	}
}

// takeOff begins to fetch keys, unless one of them is being fetched already:
// then it returns that flight, which is not its own. A key manager that deletes
// keys gives the second who asks nothing.
func (m *Manager) takeOff(peer string, ids []string) (f *flight, own bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f = &flight{peer: peer, ids: ids, done: make(chan struct{})}
	if m.closed {
		f.err = fmt.Errorf("%w: the key store is closed", kmclient.ErrUnavailable)
		close(f.done)
		return f, false
	}
	for _, id := range ids {
		if other := m.flights[kmclient.CanonicalID(id)]; other != nil {
			return other, false
		}
	}
	for _, id := range ids {
		m.flights[kmclient.CanonicalID(id)] = f
	}
	// Not under the caller's context: the answer may be the only copy.
	m.work.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), m.o.FetchTimeout)
		defer cancel()
		f.err = m.fetch(ctx, peer, ids)
		m.mu.Lock()
		for _, id := range ids {
			delete(m.flights, kmclient.CanonicalID(id))
		}
		m.mu.Unlock()
		close(f.done)
	})
	return f, true
}

// fetch fetches keys and stores them.
func (m *Manager) fetch(ctx context.Context, peer string, ids []string) error {
	ids, err := m.flushFirst(ctx, ids)
	if err != nil || len(ids) == 0 {
		return err
	}
	keys, err := m.km.KeysByID(ctx, peer, ids...)
	if err != nil {
		return err
	}
	if err := matches(keys, ids); err != nil {
		_ = m.keepStrays(peer, keys) // the key manager may have them no more; that they can't be stored is logged
		return err
	}
	return m.keep(ctx, peer, keys)
}

// keep stores keys that have come for peer, and wipes these. If that can't be
// done they wait in memory.
func (m *Manager) keep(ctx context.Context, peer string, keys []*kmclient.Key) error {
	// The time that the key manager took is not taken from the store.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), m.o.FetchTimeout)
	defer cancel()
	n, err := m.store(ctx, peer, keys)
	if err == nil {
		m.count.fetched.Add(int64(n))
		kmclient.WipeAll(keys)
		return nil
	}
	if all, ok := m.hold(peer, keys); ok {
		m.o.Logger.Error("keys were fetched and can't be stored; they wait in memory", "keys", len(keys), "waiting", all, "error", err)
	} else {
		m.o.Logger.Error("keys came after the key store was closed; they are lost", "keys", len(keys), "peer", peer)
	}
	return err
}

// matches reports whether keys are those that were asked for, and can be used.
func matches(keys []*kmclient.Key, ids []string) error {
	if err := kmclient.CheckKeys(keys, 0, len(ids)); err != nil {
		return err
	}
	for i, k := range keys {
		if kmclient.CanonicalID(k.ID()) != kmclient.CanonicalID(ids[i]) {
			return fmt.Errorf("%w: asked for key %s and got %s", kmclient.ErrBadKey, ids[i], k.ID())
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
	if k.Size() > MaxKeySize {
		return fmt.Errorf("%w: key %s of %d bits: can store %d", kmclient.ErrBadKey, k.ID(), k.Size(), MaxKeySize)
	}
	return nil
}

// store stores keys that came for peer, and returns how many were new. One that
// is there already stays as it is: everybody gets the key that was stored first.
func (m *Manager) store(ctx context.Context, peer string, keys []*kmclient.Key) (n int, err error) {
	// They have just been looked for in vain, most times. If they are there by
	// now, that is a conflict.
	n, err = m.storeNew(ctx, peer, keys, make([]*keyRecord, len(keys)))
	if !errors.Is(err, ErrConflict) {
		return n, err
	}
	err = retry(func() error {
		ids := make([]string, len(keys))
		for i, k := range keys {
			ids[i] = k.ID()
		}
		present, err := m.keyRecords(ctx, asStored, ids)
		if err != nil {
			return err
		}
		defer wipeRecords(present)
		more, err := m.storeNew(ctx, peer, keys, present)
		n += more
		return err
	})
	return n, err
}

// storeNew stores those keys of which no record is present.
func (m *Manager) storeNew(ctx context.Context, peer string, keys []*kmclient.Key, present []*keyRecord) (n int, err error) {
	var edits []edit
	defer func() { wipeEdits(edits) }()
	for i, k := range keys {
		if p := present[i]; p != nil {
			if p.state != kmclient.StateClosed && !bytes.Equal(p.octets, k.Reveal()) {
				m.count.changed.Add(1)
				m.o.Logger.Error("the key manager gave out a key with other octets than before; it is not used",
					"alarm", "changed", "key_id", k.ID(), "peer", peer)
			}
			continue
		}
		r := newKeyRecord(peer, k, m.clock.late())
		edits = append(edits, m.editKey(r, m.dueUnused(r)))
		r.wipe()
	}
	n, err = m.vault.applySome(ctx, edits)
	m.count.stored.Add(int64(n))
	return n, err
}

func wipeEdits(edits []edit) {
	for _, e := range edits {
		clear(e.plain)
	}
}
