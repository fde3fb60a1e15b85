package storekey

import (
	"bytes"
	"testing"
)

// A value that was not sealed with the key never opens, and no value causes a panic.
func FuzzOpen(f *testing.F) {
	key := Key{bytes.Repeat([]byte("s"), size)}
	place := Place{Store: []byte("store"), Name: [4]string{"receive", "", "", "id"}}
	good, err := key.Seal(place, 1, 2, []byte("plain"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:20])
	f.Fuzz(func(t *testing.T, value []byte) {
		// Each fuzzing process has its own valid value.
		if state, plain, err := key.Open(place, value); err == nil && (state != 2 || string(plain) != "plain") {
			t.Errorf("opened: %x", value)
		}
	})
}
