package kmsim

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/qkdmail/qkdmail/kmclient"
)

// maxKeySize is the size of the largest key that a simulator makes, in bits.
const maxKeySize = 8 << 20

var (
	errNotGranted = errors.New("key not granted to this caller")
	errFull       = errors.New("too many keys wait to be fetched")
)

// A keyring holds keys that were handed out and can still be fetched by their IDs.
type keyring struct {
	limit int // keys in each pool

	mu    sync.Mutex          // guards what follows
	keys  map[string]*heldKey // by canonical ID
	count map[string]int      // keys in each pool
	made  int                 // keys ever put in
}

// A grant says who may have a key. The zero grant is for the QMail REST API, which
// does not know its callers: anyone may have the key until it is deleted.
type grant struct {
	pool    string   // the keys of a pair of SAEs
	master  string   // the SAE that asked for the key and got it
	readers []string // SAEs that may fetch it
}

// A heldKey is a key in a keyring.
type heldKey struct {
	grant
	key     *kmclient.Key
	number  int             // keys are numbered in the order they were put in
	waiting map[string]bool // by reader; false once it has the key
}

func newKeyring(limit int) *keyring {
	return &keyring{limit: limit, keys: map[string]*heldKey{}, count: map[string]int{}}
}

// put adds copies of keys. If the pool would then have too many, it adds none and
// returns errFull.
func (r *keyring) put(g grant, keys ...*kmclient.Key) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.count[g.pool]+len(keys) > r.limit {
		return errFull
	}
	for _, k := range keys {
		r.made++
		held := &heldKey{grant: g, key: clone(k), number: r.made, waiting: map[string]bool{}}
		for _, sae := range g.readers {
			held.waiting[sae] = true
		}
		r.keys[kmclient.CanonicalID(k.ID())] = held
	}
	r.count[g.pool] += len(keys)
	return nil
}

// get returns a copy of a key to any caller.
func (r *keyring) get(id string) (*kmclient.Key, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	k, ok := r.keys[kmclient.CanonicalID(id)]
	if !ok {
		return nil, notHeld(id)
	}
	return clone(k.key), nil
}

// delete removes a key.
func (r *keyring) delete(id string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.keys[kmclient.CanonicalID(id)]; !ok {
		return notHeld(id)
	}
	r.remove(kmclient.CanonicalID(id))
	return nil
}

// fetch returns copies of keys that master got and reader may fetch, in the order of
// ids, all or none. A key is removed once all its readers have it. With keep, this
// reader may fetch the keys again. A key that does not exist, or that the reader
// already has, is a kmclient.ErrKeyNotFound; one that the reader may not have is an
// errNotGranted.
func (r *keyring) fetch(master, reader string, keep bool, ids []string) ([]*kmclient.Key, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var missing error
	asked := map[string]bool{}
	for _, id := range ids {
		name := kmclient.CanonicalID(id)
		k, ok := r.keys[name]
		var waits, granted bool
		if ok {
			waits, granted = k.waiting[reader]
		}
		switch {
		case !ok:
			missing = notHeld(id) // go on: another one may be refused
		case !granted || k.master != master:
			return nil, fmt.Errorf("%w: %s", errNotGranted, id)
		case !waits || asked[name] && !keep:
			missing = notHeld(id)
		}
		asked[name] = true
	}
	if missing != nil {
		return nil, missing
	}
	keys := make([]*kmclient.Key, len(ids))
	for i, id := range ids {
		keys[i] = clone(r.keys[kmclient.CanonicalID(id)].key)
	}
	if !keep {
		for name := range asked {
			r.note(name, reader)
		}
	}
	return keys, nil
}

// note records that a reader has a key, and removes the key if that was its last
// reader. mu must be held, as for remove.
func (r *keyring) note(name, reader string) {
	k := r.keys[name]
	k.waiting[reader] = false
	for _, waits := range k.waiting {
		if waits {
			return
		}
	}
	r.remove(name)
}

func (r *keyring) remove(name string) {
	k := r.keys[name]
	k.key.Wipe()
	delete(r.keys, name)
	r.count[k.pool]--
}

// earlier returns copies of the oldest keys of this size in a pool, n at most.
func (r *keyring) earlier(pool string, size, n int) []*kmclient.Key {
	r.mu.Lock()
	defer r.mu.Unlock()
	var found []*heldKey
	for _, k := range r.keys {
		if k.pool == pool && k.key.Size() == size {
			found = append(found, k)
		}
	}
	slices.SortFunc(found, func(a, b *heldKey) int { return a.number - b.number })
	var keys []*kmclient.Key
	for _, k := range found[:min(n, len(found))] {
		keys = append(keys, clone(k.key))
	}
	return keys
}

// forget removes all keys of a pool.
func (r *keyring) forget(pool string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, k := range r.keys {
		if k.pool == pool {
			r.remove(name)
		}
	}
}

func clone(k *kmclient.Key) *kmclient.Key {
	return kmclient.NewKey(k.ID(), bytes.Clone(k.Reveal()))
}

func notHeld(id string) error { return fmt.Errorf("%w: %s", kmclient.ErrKeyNotFound, id) }
