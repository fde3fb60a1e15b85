package keystore_test

import (
	"errors"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/kmclient"
)

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
