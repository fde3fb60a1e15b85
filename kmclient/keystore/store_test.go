package keystore_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keystore"
	"github.com/qkdmail/qkdmail/kmclient/keystore/internal/engine"
	"github.com/qkdmail/qkdmail/kmclient/keystore/memory"
)

// A closingEngine counts how often it is closed.
type closingEngine struct {
	engine.Engine
	closed int
}

func (c *closingEngine) Close() error {
	c.closed++
	return c.Engine.Close()
}

// Store.Close closes the engine, and so does Open if it fails.
func TestEngineIsClosed(t *testing.T) {
	for name, tt := range map[string]struct {
		o    keystore.Options
		good bool
	}{
		"opened":          {keystore.Options{Key: keystore.Keys(keystore.NewStoreKey())}, true},
		"no store key":    {keystore.Options{}, false},
		"wrong store key": {keystore.Options{Key: keystore.Keys(keystore.StoreKey{})}, false},
		"negative time":   {keystore.Options{Key: keystore.Keys(keystore.NewStoreKey()), FetchTimeout: -1}, false},
	} {
		engine := &closingEngine{Engine: memory.New().Open(nil)}
		tt.o.Engine = engine
		s, err := keystore.Open(t.Context(), newKM(), tt.o)
		if (err == nil) != tt.good {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil {
			err = s.Close(t.Context())
		}
		if engine.closed != 1 {
			t.Errorf("%s: the engine was closed %d times, want once; %v", name, engine.closed, err)
		}
	}
	_, err := keystore.Open(t.Context(), nil, keystore.Options{Key: keystore.Keys(keystore.NewStoreKey())})
	if !errors.Is(err, kmclient.ErrConfig) {
		t.Errorf("without an engine: %v, want ErrConfig", err)
	}
}

// Without a key manager, a Store has only the stored keys.
func TestNoKeyManager(t *testing.T) {
	k := newKit(t, nil)
	ids := k.sent(2)
	want := k.get(k.Store, ids[0])
	s := k.before(nil, nil)
	keys, err := s.KeysByID(t.Context(), "A", ids[0])
	if err != nil || !bytes.Equal(keys[0].Reveal(), want[0].Reveal()) {
		t.Errorf("a key that is in the store: %v, %v", keys, err)
	}
	_, err = s.KeysByID(t.Context(), "A", ids[1])
	k.want(err, kmclient.ErrUnavailable, true)
	if _, err := s.GetKeys(t.Context(), "A", 256, 1); !errors.Is(err, kmclient.ErrUnavailable) {
		t.Errorf("GetKeys: %v, want ErrUnavailable", err)
	}
	if _, err := s.Status(t.Context(), "A"); !errors.Is(err, kmclient.ErrUnavailable) {
		t.Errorf("Status: %v, want ErrUnavailable", err)
	}
}

// For gives access to another owner's keys, and fetches none.
func TestFor(t *testing.T) {
	k := newKit(t, nil)
	ids := k.sent(2)
	k.get(k.Store, ids[0])
	s := k.another(func(_ *kit, o *keystore.Options) { o.KM, o.SAE = "", "" })
	b := s.For(keystore.Owner{KM: "km", SAE: "B"})
	listed := func(s *keystore.Store) (all []string) {
		for info, err := range s.List(t.Context()) {
			if err != nil {
				t.Error(err)
			}
			all = append(all, info.ID)
		}
		return all
	}
	if got := listed(s); len(got) > 0 {
		t.Errorf("listed %v, which are another owner's", got)
	}
	if got := listed(b); !slices.Equal(got, ids[:1]) {
		t.Errorf("listed %v, want %v", got, ids[:1])
	}
	_, err := b.KeysByID(t.Context(), "A", ids[1])
	k.want(err, kmclient.ErrUnavailable, true)
	_, err = b.GetKeys(t.Context(), "A", 256, 1) // its ID would be claimed for the wrong owner
	k.want(err, kmclient.ErrUnavailable, true)
	if err := b.Close(t.Context()); err != nil {
		t.Error(err)
	}
	k.get(s, ids[1]) // it is still open
}

// A store sweeps by itself, until it is closed.
func TestSweepsByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t, func(_ *kit, o *keystore.Options) {
			o.Close, o.SweepEvery = keystore.After(0), time.Hour
		})
		ids := k.sent(1)
		k.get(k.Store, ids...)
		k.bind(k.Store, "m", ids...)
		k.deliver(k.Store, ids[0], rcpt)
		k.clock.add(2 * time.Minute)
		time.Sleep(2 * time.Hour)
		k.wantState(ids[0], kmclient.StateClosed)
		if err := k.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
}
func TestCheckStore(t *testing.T) {
	k := newKit(t, nil)
	for range 2 {
		if err := k.CheckStore(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := k.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := k.CheckStore(t.Context()); !errors.Is(err, kmclient.ErrStore) {
		t.Errorf("a store that can't be written: %v, want ErrStore", err)
	}
	if n := k.Stats().StoreErrors; n != 0 {
		t.Errorf("a check counts as %d errors of the store", n)
	}
}

func TestSwept(t *testing.T) {
	k := newKit(t, nil)
	if at := k.Stats().Swept; !at.IsZero() {
		t.Errorf("swept at %v, before any sweep", at)
	}
	k.sweep(k.Store)
	want := k.clock.Now()
	k.clock.add(time.Hour)
	if err := k.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := k.Sweep(t.Context()); err == nil {
		t.Error("swept a closed store")
	}
	if at := k.Stats().Swept; !at.Equal(want) {
		t.Errorf("swept at %v, want %v: the last one failed", at, want)
	}
}
