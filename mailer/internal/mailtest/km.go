package mailtest

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strings"
	"sync"

	"github.com/qkdmail/qkdmail/kmclient"
)

// A KM is a key manager in memory, for both sides. What it answers can be
// replaced.
type KM struct {
	mu    sync.Mutex
	keys  map[string][]byte
	asked []string // IDs
	given int

	// What it answers, if not nil.
	OnStatus func() (kmclient.Status, error)
	OnGet    func(ctx context.Context) error               // before keys are given
	OnFind   func(ctx context.Context, ids []string) error // before keys are looked up
	Spoil    func(id string, key []byte) []byte            // what is given in place of a key
}

// NewKM returns a key manager that has no key yet.
func NewKM() *KM { return &KM{keys: map[string][]byte{}} }

// Status returns a large stock of keys of 256 bits.
func (m *KM) Status(context.Context, string) (kmclient.Status, error) {
	if m.OnStatus != nil {
		return m.OnStatus()
	}
	return kmclient.Status{KeySize: 256, StoredKeys: new(100_000), MaxKeySize: 4096, MinKeySize: 64, MaxKeyPerRequest: 128}, nil
}

// GetKeys makes keys.
func (m *KM) GetKeys(ctx context.Context, _ string, size, number int) ([]*kmclient.Key, error) {
	if m.OnGet != nil {
		if err := m.OnGet(ctx); err != nil {
			return nil, err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var keys []*kmclient.Key
	for range number {
		m.given++
		key := make([]byte, size/8)
		_, _ = rand.Read(key)
		id := keyID(m.given)
		m.keys[id] = key
		keys = append(keys, kmclient.NewKey(id, bytes.Clone(key)))
	}
	return keys, nil
}

// KeysByID returns keys that were made, and keeps them.
func (m *KM) KeysByID(ctx context.Context, _ string, ids ...string) ([]*kmclient.Key, error) {
	m.mu.Lock()
	m.asked = append(m.asked, ids...)
	m.mu.Unlock()
	if m.OnFind != nil {
		if err := m.OnFind(ctx, ids); err != nil {
			return nil, err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var keys []*kmclient.Key
	for _, id := range ids {
		key, ok := m.keys[kmclient.CanonicalID(id)]
		if !ok {
			return nil, fmt.Errorf("%w: %s", kmclient.ErrKeyNotFound, id)
		}
		key = bytes.Clone(key)
		if m.Spoil != nil {
			key = m.Spoil(id, key)
		}
		keys = append(keys, kmclient.NewKey(id, key))
	}
	return keys, nil
}

// CloseKey does nothing.
func (m *KM) CloseKey(context.Context, string) error { return nil }

// Claimed reports whether this key manager has given a key out.
func (m *KM) Claimed(_ context.Context, _, id string) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, ok := m.keys[kmclient.CanonicalID(id)]
	return ok, nil
}

// DeletesOnDelivery is false: keys stay.
func (m *KM) DeletesOnDelivery() bool { return false }

// Count returns how many keys were given out, and how many were asked for by ID.
func (m *KM) Count() (given, asked int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.given, len(m.asked)
}

// Leaks reports whether text shows one of the keys.
func (m *KM) Leaks(text string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, k := range m.keys {
		if strings.Contains(text, string(k)) || strings.Contains(strings.ToLower(text), hex.EncodeToString(k)) {
			return true
		}
	}
	return false
}

// Put keeps a key.
func (m *KM) Put(id string, key []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.keys[kmclient.CanonicalID(id)] = bytes.Clone(key)
}

// Remove forgets keys.
func (m *KM) Remove(ids ...string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, id := range ids {
		delete(m.keys, kmclient.CanonicalID(id))
	}
}

// Last returns the key that was made last.
func (m *KM) Last() *kmclient.Key {
	m.mu.Lock()
	defer m.mu.Unlock()
	id := keyID(m.given)
	return kmclient.NewKey(id, bytes.Clone(m.keys[id]))
}

// keyID returns the ID of the n-th key.
func keyID(n int) string { return fmt.Sprintf("00000000-0000-4000-8000-%012d", n) }
