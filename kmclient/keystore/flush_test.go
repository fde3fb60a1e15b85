package keystore_test

import (
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
	})
}
