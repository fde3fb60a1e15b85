package etsi014

import (
	"fmt"
	"hash/maphash"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/internal/redact"
)

const (
	rememberedIDs = 1 << 18   // key IDs that can't come back; about 8 MiB
	keepKeys      = time.Hour // longer than a mail system waits before it tries again
	maxKept       = 4096      // keys
	maxKeptOctets = 64 << 20  // of all of them
)

// An idMemory knows the key IDs that it was given last. It keeps hashes of 64
// bits: that one of a full memory matches by chance has a probability of
// 2^-46.
type idMemory struct {
	seed maphash.Seed
	max  int

	mu    sync.Mutex
	known map[uint64]struct{}
	ring  []uint64 // in the order in which they came, from next on
	next  int
}

func newIDMemory(max int) *idMemory {
	return &idMemory{seed: maphash.MakeSeed(), max: max, known: map[uint64]struct{}{}}
}

// claim refuses keys of which one has been here before, and remembers them
// otherwise. The error is a kmclient.ErrBadKey.
func (m *idMemory) claim(peer string, keys []*kmclient.Key) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, k := range keys {
		if _, ok := m.known[m.hash(peer, k.ID())]; ok {
			return fmt.Errorf("%w: key %s: the KME has given it out before", kmclient.ErrBadKey, redact.ID(k.ID()))
		}
	}
	m.add(peer, keys)
	return nil
}

// note remembers keys that may come any number of times, but not to encrypt.
func (m *idMemory) note(peer string, keys []*kmclient.Key) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.add(peer, keys)
}

func (m *idMemory) add(peer string, keys []*kmclient.Key) {
	for _, k := range keys {
		h := m.hash(peer, k.ID())
		if _, ok := m.known[h]; ok {
			continue
		}
		if len(m.ring) < m.max {
			m.ring = append(m.ring, h)
		} else {
			delete(m.known, m.ring[m.next])
			m.ring[m.next] = h
			m.next = (m.next + 1) % m.max
		}
		m.known[h] = struct{}{}
	}
}

// hash takes an ID that is no UUID, against the standard, to be unique among
// the keys for one peer only.
func (m *idMemory) hash(peer, id string) uint64 {
	if id = kmclient.CanonicalID(id); uuid.Validate(id) == nil {
		peer = ""
	}
	return maphash.Comparable(m.seed, [2]string{peer, id})
}

// keptKeys are keys that a KME has given out, and thus deleted, before anybody
// could use them. They are wiped when they are too old or too many.
type keptKeys struct {
	age    time.Duration
	wasted func(n int) // is told of keys that are wiped

	mu     sync.Mutex
	keys   map[keptID]keptKey
	octets int
	timer  *time.Timer // nil: none of the keys is waiting
	closed bool
}

type keptID struct{ peer, id string } // id is canonical

type keptKey struct {
	*kmclient.Key
	until time.Time
}

func newKeptKeys(age time.Duration, wasted func(n int)) *keptKeys {
	return &keptKeys{age: age, wasted: wasted, keys: map[keptID]keptKey{}}
}

// add takes over keys, by their canonical IDs.
func (c *keptKeys) add(peer string, keys map[string]*kmclient.Key) {
	c.mu.Lock()
	defer c.mu.Unlock()
	until := time.Now().Add(c.age)
	for id, k := range keys {
		at := keptID{peer, id}
		c.drop(at)
		c.keys[at] = keptKey{k, until}
		c.octets += k.Size() / 8
		if c.closed {
			c.drop(at)
		}
	}
	for _, at := range c.byAge() {
		if len(c.keys) <= maxKept && c.octets <= maxKeptOctets {
			break
		}
		c.drop(at)
	}
	if c.timer == nil && len(c.keys) > 0 {
		c.timer = time.AfterFunc(c.age, c.sweep)
	}
}

// take gives away the keys with these IDs that are there.
func (c *keptKeys) take(peer string, ids []string) map[string]*kmclient.Key {
	c.mu.Lock()
	defer c.mu.Unlock()
	found := make(map[string]*kmclient.Key, len(ids))
	for _, id := range ids {
		at := keptID{peer, kmclient.CanonicalID(id)}
		if k, ok := c.keys[at]; ok && time.Now().Before(k.until) {
			found[at.id] = k.Key
			c.octets -= k.Size() / 8
			delete(c.keys, at)
		}
	}
	return found
}

// sweep wipes the keys that are too old.
func (c *keptKeys) sweep() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.timer = nil
	now := time.Now()
	for _, at := range c.byAge() {
		if left := c.keys[at].until.Sub(now); left > 0 {
			c.timer = time.AfterFunc(left, c.sweep)
			return
		}
		c.drop(at)
	}
}

// byAge returns the IDs of the keys, the oldest first.
func (c *keptKeys) byAge() []keptID {
	return slices.SortedFunc(maps.Keys(c.keys), func(a, b keptID) int { return c.keys[a].until.Compare(c.keys[b].until) })
}

func (c *keptKeys) drop(at keptID) {
	k, ok := c.keys[at]
	if !ok {
		return
	}
	c.octets -= k.Size() / 8
	delete(c.keys, at)
	k.Wipe()
	c.wasted(1)
}

func (c *keptKeys) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.keys)
}

func (c *keptKeys) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	if c.timer != nil {
		c.timer.Stop()
		c.timer = nil
	}
	for at := range c.keys {
		c.drop(at)
	}
}
