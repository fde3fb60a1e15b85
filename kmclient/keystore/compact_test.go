package keystore_test

import (
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keystore"
	"github.com/qkdmail/qkdmail/kmclient/keystore/internal/engine"
)

// The engine compacts once: after the sweep that closed keys, or after the next one if
// that failed or the keys were closed in another way.
func TestCompact(t *testing.T) {
	sweeps := map[string]func(*kit) error{
		"Sweep":    func(k *kit) error { return k.Sweep(k.Context()) },
		"SweepAll": func(k *kit) error { _, err := k.SweepAll(k.Context(), false); return err },
	}
	for name, sweep := range sweeps {
		t.Run(name, func(t *testing.T) {
			k := newKit(t, closing(keystore.After(0)))
			want := func(calls int, failed error) {
				t.Helper()
				before := k.engine.compacted
				err := sweep(k)
				if failed != nil {
					k.want(err, failed, true)
				} else if err != nil {
					t.Error(err)
				}
				if got := k.engine.compacted - before; got != calls {
					t.Errorf("compacted %d times, want %d", got, calls)
				}
			}
			want(1, nil) // whatever an earlier process left
			want(0, nil)
			ids := k.sent(2)
			k.get(k.Store, ids...)
			k.bind(k.Store, "m", ids[0])
			k.deliver(k.Store, ids[0], rcpt)
			k.clock.add(2 * time.Minute)
			k.engine.compact = errDisk
			want(1, kmclient.ErrStore)
			k.wantState(ids[0], kmclient.StateClosed)
			want(1, kmclient.ErrStore)
			k.engine.compact = engine.ErrUncompacted // not an error
			want(1, nil)
			k.engine.compact = nil
			want(1, nil)
			want(0, nil)
			if err := k.CloseKey(t.Context(), ids[1]); err != nil {
				t.Error(err)
			}
			want(1, nil)
			want(0, nil)
			if _, err := k.another(nil).SweepAll(t.Context(), true); err != nil || k.engine.compacted != 0 {
				t.Errorf("a dry run compacts: %d times, %v", k.engine.compacted, err)
			}
		})
	}
}
