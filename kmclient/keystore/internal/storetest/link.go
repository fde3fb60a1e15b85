// Package storetest tests the engines of a key store, and provides one end of a QKD
// link.
package storetest

import (
	"context"
	"crypto/sha256"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"

	"github.com/qkdmail/qkdmail/kmclient"
)

// A Link is a kmclient.KeyManager at one end of a QKD link, where the bytes of a key
// follow from its ID. It gives out every key, as often as asked, unless its fields are
// set.
type Link struct {
	Gone  func(id string) bool // called before a receiving key is given out; true: the key is gone
	Fresh func() string        // an ID for sending; nil: a new UUID
	Keeps bool                 // DeletesOnDelivery is false
}

var _ kmclient.KeyManager = (*Link)(nil)

// KeyBytes returns the bytes of the key with an ID.
func KeyBytes(id string) []byte {
	sum := sha256.Sum256([]byte(id))
	return sum[:]
}

// DeletesOnDelivery is true unless l.Keeps.
func (l *Link) DeletesOnDelivery() bool { return !l.Keeps }

// Status is empty.
func (l *Link) Status(context.Context, string) (kmclient.Status, error) {
	return kmclient.Status{}, nil
}

// CloseKey does nothing.
func (l *Link) CloseKey(context.Context, string) error { return nil }

// GetKeys gives out sending keys.
func (l *Link) GetKeys(_ context.Context, _ string, _, number int) (keys []*kmclient.Key, err error) {
	fresh := l.Fresh
	if fresh == nil {
		fresh = uuid.NewString
	}
	for range number {
		id := fresh()
		keys = append(keys, kmclient.NewKey(id, KeyBytes(id)))
	}
	return keys, nil
}

// KeysByID gives out receiving keys. If a key is gone, the error is
// kmclient.ErrKeyNotFound.
func (l *Link) KeysByID(_ context.Context, _ string, ids ...string) (keys []*kmclient.Key, err error) {
	for _, id := range ids {
		if l.Gone != nil && l.Gone(id) {
			return nil, &kmclient.Error{Op: "keys by ID", Err: kmclient.ErrKeyNotFound}
		}
		keys = append(keys, kmclient.NewKey(id, KeyBytes(id)))
	}
	return keys, nil
}

// Identity returns the identity of a message, which follows from s.
func Identity(s string) kmclient.Identity { return sha256.Sum256([]byte(s)) }

// A Store has the methods of keystore.Store that an arriving message uses.
type Store interface {
	KeysByID(ctx context.Context, peer string, ids ...string) ([]*kmclient.Key, error)
	BindKeys(ctx context.Context, peer string, identity kmclient.Identity, frame uint64, ids ...string) error
	Delivered(ctx context.Context, peer string, identity kmclient.Identity, keyID string, rcpts ...string) ([]bool, error)
	RecordDelivered(ctx context.Context, peer string, identity kmclient.Identity, keyID string, rcpts ...string) error
}

// Message makes the calls of one arriving message, as a relay does: its key is fetched,
// stored and bound to it, and its delivery looked up and recorded, in three commits.
func Message(s Store, id string) error {
	ctx := context.Background()
	keys, err := s.KeysByID(ctx, "A", id)
	if err != nil {
		return err
	}
	kmclient.WipeAll(keys)
	if err := s.BindKeys(ctx, "A", Identity(id), 0, id); err != nil {
		return err
	}
	if _, err := s.Delivered(ctx, "A", Identity(id), id, "someone@example.org"); err != nil {
		return err
	}
	return s.RecordDelivered(ctx, "A", Identity(id), id, "someone@example.org")
}

// Messages is Message for n messages, of which sessions are under way at a time.
func Messages(t testing.TB, s Store, n, sessions int) {
	var left atomic.Int64
	left.Store(int64(n))
	var all sync.WaitGroup
	for range sessions {
		all.Go(func() {
			for left.Add(-1) >= 0 {
				if err := Message(s, uuid.NewString()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
}
