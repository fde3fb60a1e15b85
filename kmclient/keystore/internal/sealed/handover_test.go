package sealed

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"testing"

	"github.com/qkdmail/qkdmail/kmclient/keystore/internal/engine"
	"github.com/qkdmail/qkdmail/kmclient/keystore/internal/storekey"
	"github.com/qkdmail/qkdmail/kmclient/keystore/memory"
)

func name(id int) engine.Name { return engine.Name{Kind: engine.Receive, ID: fmt.Sprint(id)} }

// Records can be taken once, all that are wanted or none.
func TestTake(t *testing.T) {
	var h handover
	want := func(what string, ok bool, ids ...engine.Name) {
		t.Helper()
		if _, got := h.take(ids); got != ok {
			t.Errorf("%s: %v, want %v", what, got, ok)
		}
	}
	want("nothing there", false, name(1))
	h.put(name(1), &engine.Record{Value: []byte("value")})
	h.put(name(2), nil)
	want("one of two", false, name(1), name(3))
	want("both", true, name(1), name(2))
	want("again", false, name(1))
	if h.size != 0 {
		t.Errorf("%d bytes are counted though nothing waits", h.size)
	}
	h.put(name(1), nil)
	h.forget(name(1))
	want("forgotten", false, name(1))
}

// Records waiting to be taken are bounded in number and size.
func TestHandoverIsBounded(t *testing.T) {
	var h handover
	for i := range 10 * maxHanded {
		h.put(name(i), nil)
	}
	if len(h.records) > maxHanded {
		t.Errorf("%d records wait, want at most %d", len(h.records), maxHanded)
	}
	for i := range 100 {
		h.put(name(i), &engine.Record{Value: make([]byte, maxHandedBytes/7)})
	}
	if h.size > maxHandedBytes || h.size != len(h.records)*(maxHandedBytes/7) {
		t.Errorf("%d records of %d bytes wait, want at most %d bytes", len(h.records), h.size, maxHandedBytes)
	}
	h.put(name(1), nil)
	before := h.size
	for range 100 {
		h.put(name(2), &engine.Record{Value: make([]byte, 1000)})
	}
	if h.size > before+1000 {
		t.Error("a record that is put again takes more room than before")
	}
}

// What is handed over is sealed. It is gone after anyone here changes the record, and
// gone with the store.
func TestHandedOver(t *testing.T) {
	source := func(bool) ([]storekey.Key, error) { return []storekey.Key{storekey.New()}, nil }
	s, err := Open(t.Context(), memory.New().Open(nil), source, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	secret := []byte("bytes of a key")
	write := func(old *engine.Record, hand bool) {
		t.Helper()
		if err := s.Apply(t.Context(), Edit{Old: old, Name: name(1), Plain: bytes.Clone(secret), Hand: hand}); err != nil {
			t.Fatal(err)
		}
	}
	write(nil, true)
	if r := s.handed.records[name(1)]; r == nil || bytes.Contains(r.Value, secret) {
		t.Errorf("handed over: %v, want a sealed record", r)
	}
	items, err := s.Take(t.Context(), name(1))
	if err != nil || !bytes.Equal(items[0].Plain, secret) {
		t.Fatalf("taken: %v, %v", items, err)
	}
	s.HandOver(name(1), items[0].Record)
	write(items[0].Record, false)
	if _, err := s.Take(t.Context(), name(1)); !errors.Is(err, ErrNotHanded) {
		t.Errorf("taken after a change: %v, want ErrNotHanded", err)
	}
	s.HandOver(name(2), nil)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if len(s.handed.records) > 0 {
		t.Error("records wait in a closed store")
	}
}
