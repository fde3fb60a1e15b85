package smtpkit

import (
	"context"
	"crypto/sha256"
	"strconv"
	"sync/atomic"

	"github.com/qkdmail/qkdmail/kmclient"
)

// Keys is a key manager that derives each key from its ID and stores none, so that
// only the relay is measured. It is not for mail.
type Keys struct{ n atomic.Int64 }

// Status says that keys are made on demand.
func (*Keys) Status(context.Context, string) (kmclient.Status, error) {
	return kmclient.Status{KeySize: 256, MinKeySize: 256, MaxKeySize: 256, MaxKeyPerRequest: 128, OnDemand: true}, nil
}

// GetKeys makes keys of 256 bits.
func (k *Keys) GetKeys(_ context.Context, _ string, size, number int) ([]*kmclient.Key, error) {
	if size != 256 {
		return nil, kmclient.ErrBadRequest
	}
	keys := make([]*kmclient.Key, number)
	for i := range keys {
		keys[i] = derived("bench-key-" + strconv.FormatInt(k.n.Add(1), 10))
	}
	return keys, nil
}

// KeysByID derives the keys again.
func (*Keys) KeysByID(_ context.Context, _ string, ids ...string) ([]*kmclient.Key, error) {
	keys := make([]*kmclient.Key, len(ids))
	for i, id := range ids {
		keys[i] = derived(id)
	}
	return keys, nil
}

// CloseKey has nothing to close.
func (*Keys) CloseKey(context.Context, string) error { return nil }

// DeletesOnDelivery is false: a key can be derived again.
func (*Keys) DeletesOnDelivery() bool { return false }

func derived(id string) *kmclient.Key {
	sum := sha256.Sum256([]byte(id))
	return kmclient.NewKey(id, sum[:])
}
