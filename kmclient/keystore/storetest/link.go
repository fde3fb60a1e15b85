package storetest

import (
	"context"
	"crypto/sha256"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keystore"
)

// A Link is one end of a QKD link: the octets of a key follow from its ID. It
// gives out every key that it is asked for, as often as it is asked, unless told
// otherwise. It is a kmclient.KeyManager.
type Link struct {
	Gone  func(id string) bool // the key is given out; true if it was before
	Fresh func() string        // an ID for sending; nil: a new UUID
	Keeps bool                 // it says that it keeps keys
}

var _ kmclient.KeyManager = (*Link)(nil)

// Octets returns those of the key with an ID.
func Octets(id string) []byte {
	sum := sha256.Sum256([]byte(id))
	return sum[:]
}

// DeletesOnDelivery is true unless l.Keeps.
func (l *Link) DeletesOnDelivery() bool { return !l.Keeps }

// Status says nothing.
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
		keys = append(keys, kmclient.NewKey(id, Octets(id)))
	}
	return keys, nil
}

// KeysByID gives out receiving keys. One that is gone is a
// kmclient.ErrKeyNotFound.
func (l *Link) KeysByID(_ context.Context, _ string, ids ...string) (keys []*kmclient.Key, err error) {
	for _, id := range ids {
		if l.Gone != nil && l.Gone(id) {
			return nil, &kmclient.Error{Op: "keys by ID", Err: kmclient.ErrKeyNotFound}
		}
		keys = append(keys, kmclient.NewKey(id, Octets(id)))
	}
	return keys, nil
}

// Identity returns that of a message, which follows from s.
func Identity(s string) kmclient.Identity { return sha256.Sum256([]byte(s)) }

// Message does all that one arriving message asks of a store, as a relay does:
// its key is fetched and stored, bound to it, and its delivery looked up and
// recorded; three commits.
func Message(m *keystore.Store, id string) error {
	ctx := context.Background()
	keys, err := m.KeysByID(ctx, "A", id)
	if err != nil {
		return err
	}
	kmclient.WipeAll(keys)
	if err := m.BindKeys(ctx, "A", Identity(id), 0, id); err != nil {
		return err
	}
	if _, err := m.Delivered(ctx, "A", Identity(id), id, "someone@example.org"); err != nil {
		return err
	}
	return m.RecordDelivered(ctx, "A", Identity(id), id, "someone@example.org")
}

// Messages does so for n messages, of which sessions are under way at a time.
func Messages(t testing.TB, m *keystore.Store, n, sessions int) {
	var left atomic.Int64
	left.Store(int64(n))
	var all sync.WaitGroup
	for range sessions {
		all.Go(func() {
			for left.Add(-1) >= 0 {
				if err := Message(m, uuid.NewString()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
}
