package keystore_test

import (
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/qkdmail/qkdmail/kmclient"
)

// A store that takes its time to fail, as a file does that another process has
// locked, does so once for all who wait for it, not once for each of them.
func TestSlowFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t, nil)
		ids := k.sent(9)
		const slow = 10 * time.Second
		k.store.slow = slow
		k.store.set(errDisk, false)
		_, err := k.KeysByID(t.Context(), "A", ids[0])
		k.want(err, kmclient.ErrStore, true)

		start := time.Now()
		var all sync.WaitGroup
		for _, id := range ids[1:] {
			all.Go(func() {
				_, err := k.KeysByID(t.Context(), "A", id)
				k.want(err, kmclient.ErrStore, true)
			})
		}
		all.Wait()
		if took := time.Since(start); took > slow {
			t.Errorf("with a store that fails after %v, %d callers at a time waited for %v", slow, len(ids)-1, took)
		}
		if n := k.Stats().Waiting; n != 1 || k.km.given != 1 {
			t.Errorf("%d keys wait, %d were fetched; want 1", n, k.km.given)
		}

		k.store.set(nil, false)
		for _, id := range ids {
			all.Go(func() { k.get(k.Manager, id) })
		}
		all.Wait()
		if n := k.Stats().Waiting; n != 0 {
			t.Errorf("%d keys still wait", n)
		}
		if err := k.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// A key that could not be stored is in memory only, and no other relay can have
// it: it is stored as soon as that can be done, without anybody asking for it.
func TestWaitingIsStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t, nil)
		id := k.sent(1)[0]
		k.store.set(errDisk, false)
		_, err := k.KeysByID(t.Context(), "A", id)
		k.want(err, kmclient.ErrStore, true)
		time.Sleep(time.Hour)
		if n := k.store.applies(); n < 10 || n > 1000 {
			t.Errorf("%d attempts to store a key within an hour", n)
		}
		k.store.set(nil, false)
		time.Sleep(time.Minute)
		if n := k.Stats().Waiting; n != 0 {
			t.Errorf("%d keys still wait a minute after the store is well again", n)
		}
		k.get(k.another(nil), id)
	})
}

// Close does not wait for a store that never gets well, and says what is lost.
func TestCloseWhileWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t, nil)
		k.store.set(errDisk, false)
		_, err := k.KeysByID(t.Context(), "A", k.sent(1)[0])
		k.want(err, kmclient.ErrStore, true)
		if err := k.Close(t.Context()); !errors.Is(err, errDisk) {
			t.Errorf("Close: %v; want %v", err, errDisk)
		}
	})
}
