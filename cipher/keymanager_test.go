package cipher_test

import (
	"bytes"
	"context"
	"crypto/aes"
	stdcipher "crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"

	"github.com/google/uuid"
	"github.com/qkdmail/qkdmail/kmclient"
)

// A testKM is a key manager in memory. It respects the limits in its status.
type testKM struct {
	status kmclient.Status
	stock  int           // keys that it can still give; below 0: unlimited
	newID  func() string // makes the ID of a new key
	err    error         // returned with the keys

	mu       sync.Mutex
	keys     map[string][]byte // by canonical ID
	requests []int             // number of keys in each request
	given    []*kmclient.Key   // by GetKeys
	finds    int               // calls of KeysByID
	found    []*kmclient.Key   // by KeysByID
}

func newTestKM() *testKM {
	return newLimitedKM(kmclient.Status{MaxKeySize: 8 * 4096, MaxKeyPerRequest: 32})
}

func newLimitedKM(s kmclient.Status) *testKM {
	return &testKM{status: s, stock: -1, newID: uuid.NewString, keys: map[string][]byte{}}
}

func (km *testKM) Status(context.Context, string) (kmclient.Status, error) { return km.status, nil }

func (km *testKM) GetKeys(_ context.Context, _ string, size, number int) ([]*kmclient.Key, error) {
	km.mu.Lock()
	defer km.mu.Unlock()
	km.requests = append(km.requests, number)
	s := km.status
	switch {
	case s.MaxKeySize > 0 && size > s.MaxKeySize, size < s.MinKeySize, s.MaxKeyPerRequest > 0 && number > s.MaxKeyPerRequest:
		return nil, fmt.Errorf("%w: %d keys of %d bits", kmclient.ErrLimit, number, size)
	case km.stock >= 0 && number > km.stock:
		return nil, kmclient.ErrKeyExhausted
	case km.stock >= 0:
		km.stock -= number
	}
	keys := make([]*kmclient.Key, number)
	for i := range keys {
		key := make([]byte, size/8)
		_, _ = rand.Read(key)
		id := km.newID()
		km.keys[kmclient.CanonicalID(id)] = bytes.Clone(key)
		keys[i] = kmclient.NewKey(id, key)
	}
	km.given = append(km.given, keys...)
	return keys, km.err
}

func (km *testKM) KeysByID(_ context.Context, _ string, ids ...string) ([]*kmclient.Key, error) {
	km.mu.Lock()
	defer km.mu.Unlock()
	km.finds++
	keys := make([]*kmclient.Key, 0, len(ids))
	for _, id := range ids {
		key, ok := km.keys[kmclient.CanonicalID(id)]
		if !ok {
			return nil, fmt.Errorf("%w: %s", kmclient.ErrKeyNotFound, id)
		}
		keys = append(keys, kmclient.NewKey(id, bytes.Clone(key)))
	}
	km.found = append(km.found, keys...)
	return keys, km.err
}

// oneKey is a key manager that always gives the same key.
type oneKey struct {
	id  string
	key []byte
}

func (k oneKey) Status(context.Context, string) (kmclient.Status, error) {
	return kmclient.Status{}, nil
}

func (k oneKey) GetKeys(context.Context, string, int, int) ([]*kmclient.Key, error) {
	return []*kmclient.Key{kmclient.NewKey(k.id, bytes.Clone(k.key))}, nil
}

func (k oneKey) KeysByID(context.Context, string, ...string) ([]*kmclient.Key, error) {
	return k.GetKeys(context.Background(), "", 0, 0)
}

// failingKM fails with err.
type failingKM struct{ err error }

func (f failingKM) Status(context.Context, string) (kmclient.Status, error) {
	return kmclient.Status{}, f.err
}

func (f failingKM) GetKeys(context.Context, string, int, int) ([]*kmclient.Key, error) {
	return nil, f.err
}

func (f failingKM) KeysByID(context.Context, string, ...string) ([]*kmclient.Key, error) {
	return nil, fmt.Errorf("wrapped: %w", f.err)
}

// A derivedKM, for measurements, derives each key from its ID. It keeps no keys and
// takes little time and memory: it reuses the bytes of a wiped key for a later one.
type derivedKM struct {
	block stdcipher.Block
	next  uint64
	used  []derivedKey
}

type derivedKey struct {
	key   *kmclient.Key
	bytes []byte
}

func newDerivedKM() *derivedKM {
	block, err := aes.NewCipher(make([]byte, 16))
	if err != nil {
		panic(err)
	}
	return &derivedKM{block: block}
}

func (km *derivedKM) Status(context.Context, string) (kmclient.Status, error) {
	return kmclient.Status{MaxKeySize: derivedSize}, nil
}

// derivedSize is the largest key that a derivedKM gives, in bits: one per frame.
const derivedSize = 8 * (65536 + 32)

func (km *derivedKM) key(id uuid.UUID, size int) *kmclient.Key {
	i := slices.IndexFunc(km.used, func(k derivedKey) bool { return k.key.Reveal() == nil && len(k.bytes) == size/8 })
	if i < 0 {
		i = len(km.used)
		km.used = append(km.used, derivedKey{bytes: make([]byte, size/8)})
	}
	k := &km.used[i]
	clear(k.bytes)
	stdcipher.NewCTR(km.block, id[:]).XORKeyStream(k.bytes, k.bytes)
	k.key = kmclient.NewKey(id.String(), k.bytes)
	return k.key
}

func (km *derivedKM) GetKeys(_ context.Context, _ string, size, number int) ([]*kmclient.Key, error) {
	var keys []*kmclient.Key
	for range number {
		km.next++
		var id uuid.UUID
		binary.BigEndian.PutUint64(id[:], km.next)
		binary.BigEndian.PutUint32(id[8:], uint32(size))
		keys = append(keys, km.key(id, size))
	}
	return keys, nil
}

func (km *derivedKM) KeysByID(_ context.Context, _ string, ids ...string) ([]*kmclient.Key, error) {
	var keys []*kmclient.Key
	for _, s := range ids {
		id, err := uuid.Parse(s)
		if err != nil {
			return nil, fmt.Errorf("%w: %s", kmclient.ErrKeyNotFound, s)
		}
		keys = append(keys, km.key(id, int(binary.BigEndian.Uint32(id[8:]))))
	}
	return keys, nil
}
