package storekey

import (
	"bytes"
	"testing"
)

// No value that was not sealed with the key opens, and none makes it panic.
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
		// Each process of a fuzzer has a good one of its own.
		if state, plain, err := key.Open(place, value); err == nil && (state != 2 || string(plain) != "plain") {
			t.Errorf("opened: %x", value)
		}
	})
}
