package cipher_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/qkdmail/qkdmail/kmclient"
)

// A testKM keeps its keys in memory.
type testKM struct {
	status kmclient.Status

	mu   sync.Mutex
	keys map[string][]byte
	gets int // calls of KeysByID
}

func newTestKM(testing.TB) *testKM {
	return &testKM{
		status: kmclient.Status{MaxKeySize: 8 * 4096, MaxKeyPerRequest: 32},
		keys:   map[string][]byte{},
	}
}

func (km *testKM) Status(context.Context, string) (kmclient.Status, error) { return km.status, nil }

func (km *testKM) GetKeys(_ context.Context, _ string, size, number int) ([]*kmclient.Key, error) {
	if size > km.status.MaxKeySize || number > km.status.MaxKeyPerRequest {
		return nil, fmt.Errorf("%w: %d keys of %d bits", kmclient.ErrBadRequest, number, size)
	}
	km.mu.Lock()
	defer km.mu.Unlock()
	var keys []*kmclient.Key
	for range number {
		octets := make([]byte, size/8)
		_, _ = rand.Read(octets)
		id := uuid.NewString()
		km.keys[id] = octets
		keys = append(keys, kmclient.NewKey(id, append([]byte(nil), octets...)))
	}
	return keys, nil
}

func (km *testKM) KeysByID(_ context.Context, _ string, ids ...string) ([]*kmclient.Key, error) {
	km.mu.Lock()
	defer km.mu.Unlock()
	km.gets++
	var keys []*kmclient.Key
	for _, id := range ids {
		octets, ok := km.keys[kmclient.CanonicalID(id)]
		if !ok {
			return nil, fmt.Errorf("%w: %s", kmclient.ErrKeyNotFound, id)
		}
		keys = append(keys, kmclient.NewKey(id, append([]byte(nil), octets...)))
	}
	return keys, nil
}
