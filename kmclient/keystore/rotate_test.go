package keystore_test

import (
	"testing"

	"github.com/qkdmail/qkdmail/kmclient/keystore"
)

// The key that this process can't have before it is started anew, since another
// one has changed it, is noticed before anything is asked of the key manager:
// what that gives out and deletes would be gone with the restart.
func TestRotatedElsewhere(t *testing.T) {
	rotated := func(k *kit, next keystore.StoreKey) {
		k.Helper()
		other, err := open(t, k.mem, k.key)
		if err != nil {
			t.Fatal(err)
		}
		if err := other.Rotate(k.Context(), next); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("receiving", func(t *testing.T) {
		k := newKit(t, nil)
		ids := k.sent(1)
		next := keystore.NewStoreKey()
		rotated(k, next)
		_, err := k.KeysByID(t.Context(), "A", ids[0])
		k.want(err, keystore.ErrStoreKey, true)
		if err := k.Close(t.Context()); err != nil {
			t.Error(err)
		}
		k.key = next
		if _, err := k.another(nil).KeysByID(t.Context(), "A", ids[0]); err != nil {
			t.Errorf("started with the new key, the key of the message is lost: %v", err)
		}
	})
	t.Run("sending", func(t *testing.T) {
		k := newKit(t, nil)
		rotated(k, keystore.NewStoreKey())
		for range 10 {
			_, err := k.GetKeys(t.Context(), "A", 256, 5)
			k.want(err, keystore.ErrStoreKey, true)
		}
		if n := len(k.km.keys); n > 0 {
			t.Errorf("%d keys of the link were burned", n)
		}
	})
	t.Run("between the look and the claim", func(t *testing.T) {
		k := newKit(t, nil)
		k.km.getting = func() {
			k.km.getting = nil
			rotated(k, keystore.NewStoreKey())
		}
		for range 10 {
			_, err := k.GetKeys(t.Context(), "A", 256, 5)
			k.want(err, keystore.ErrStoreKey, true)
		}
		if n := len(k.km.keys); n != 5 {
			t.Errorf("%d keys of the link were burned by 10 tries, want those of the first", n)
		}
	})
}
