package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keystore/internal/engine"
)

// Many write at the same time, some to the same record: only one of them changes each
// state.
func testRace(k *kit) {
	const writers, rounds = 12, 15
	stores := []engine.Engine{k.Engine, k.open(), k.open()}
	k.apply(engine.Change{New: record("counter", "")})
	var won atomic.Int64
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			s := stores[w%len(stores)]
			for i := range rounds {
				if err := s.Apply(k.Context(), engine.Change{New: record(fmt.Sprint("own", w, "-", i), "v")}); err != nil {
					k.Error(err)
				}
				old, err := s.Get(k.Context(), name("counter"))
				if err != nil || old[0] == nil {
					k.Error(old, err)
					return
				}
				err = s.Apply(k.Context(), engine.Change{Old: old[0], New: record("counter", string(old[0].Value)+"x")})
				if err == nil {
					won.Add(1)
				} else if !errors.Is(err, engine.ErrConflict) {
					k.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if r := k.get(k.Engine, "counter"); int64(len(r.Value)) != won.Load() || won.Load() == 0 {
		k.Errorf("%d changes made, and the record has seen %d", won.Load(), len(r.Value))
	}
	if all, err := k.List(k.Context(), engine.Name{}, 1000); err != nil || len(all) != writers*rounds+1 {
		k.Errorf("%d records (%v)", len(all), err)
	}
}

// A reader that sees a claim also sees the record that was made with it, if it reads
// the record after the claim.
func testOrder(k *kit) {
	const rounds = 60
	claim := func(i int) engine.Name { return engine.Name{Kind: engine.Claim, ID: fmt.Sprint(i)} }
	var both sync.WaitGroup
	both.Go(func() {
		for i := range rounds {
			if err := k.Apply(k.Context(), engine.Change{New: record(fmt.Sprint(i), "v")}, engine.Change{New: &engine.Record{Name: claim(i)}}); err != nil {
				k.Error(err)
			}
		}
	})
	both.Go(func() {
		other := k.open()
		for i := 0; i < rounds && !k.Failed(); {
			got, err := other.Get(k.Context(), claim(i), name(fmt.Sprint(i)))
			switch {
			case err != nil:
				k.Error(err)
			case got[0] != nil && got[1] == nil:
				k.Errorf("round %d: the claim is there, and the record that was made with it is not", i)
			case got[0] != nil:
				i++
			}
		}
	})
	both.Wait()
}

func testReopen(k *kit) {
	k.apply(engine.Change{New: record("a", "1")})
	if err := k.Compact(k.Context()); err != nil {
		k.Error(err)
	}
	if err := k.Close(); err != nil {
		k.Error(err)
	}
	k.want(k.open(), "a", "1")
}

// A process reads what another has written.
func testOtherSees(k *kit) {
	other := k.open()
	for i := range 20 {
		id := fmt.Sprint(i)
		k.apply(engine.Change{New: record(id, "1")})
		k.want(other, id, "1")
		r := k.get(other, id)
		if err := other.Apply(k.Context(), engine.Change{Old: r, New: record(id, "2")}); err != nil {
			k.Error(err)
		}
		k.want(k.Engine, id, "2")
	}
}

func testGivenUp(k *kit) {
	ctx, cancel := context.WithCancel(k.Context())
	cancel()
	_, err := k.Get(ctx, name("a"))
	if !errors.Is(err, kmclient.ErrUnavailable) || !errors.Is(err, context.Canceled) {
		k.Error(err)
	}
	if err := k.Apply(ctx, engine.Change{New: record("a", "1")}); !errors.Is(err, kmclient.ErrUnavailable) {
		k.Error(err)
	}
	if r := k.get(k.Engine, "a"); r != nil {
		k.Error("a record was written after the caller had given up")
	}
}

func testAfterClose(k *kit) {
	for range 2 {
		if err := k.Close(); err != nil {
			k.Error(err)
		}
	}
	ctx := k.Context()
	_, err1 := k.Get(ctx, name("a"))
	err2 := k.Apply(ctx, engine.Change{New: record("a", "1")})
	_, err3 := k.List(ctx, engine.Name{}, 1)
	_, err4 := k.Due(ctx, "km", "sae", time.Now(), 1)
	for _, err := range []error{err1, err2, err3, err4, k.Compact(ctx)} {
		if !errors.Is(err, kmclient.ErrStore) {
			k.Errorf("got %v, want an ErrStore", err)
		}
	}
}
