package etsi014

import (
	"fmt"
	"hash/maphash"
	"sync"

	"github.com/google/uuid"
	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/internal/redact"
)

// rememberedIDs is how many key IDs are remembered; they take about 8 MiB.
const rememberedIDs = 1 << 18

// An idMemory remembers the last key IDs, as hashes of 64 bits. A new ID matches one
// of a full memory by chance with a probability of 2^-46.
type idMemory struct {
	seed maphash.Seed
	max  int

	mu    sync.Mutex
	known map[uint64]struct{}
	ring  []uint64 // once it is full, the oldest is at next
	next  int
}

func newIDMemory(max int) *idMemory {
	return &idMemory{seed: maphash.MakeSeed(), max: max, known: map[uint64]struct{}{}}
}

// claim remembers the IDs of keys to encrypt with. If it knows one of them already, it
// remembers none, and the error is kmclient.ErrBadKey.
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

// note remembers the IDs of keys to decrypt with, which may come again, but never to
// encrypt with.
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

// hash returns the hash of a key ID. An ID that, against the standard, is not a UUID is
// unique only among the keys of one peer.
func (m *idMemory) hash(peer, id string) uint64 {
	if id = kmclient.CanonicalID(id); uuid.Validate(id) == nil {
		peer = ""
	}
	return maphash.Comparable(m.seed, [2]string{peer, id})
}
