package keystore

import (
	"bytes"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/kmclient"
)

func someKey() *keyRecord {
	return &keyRecord{state: kmclient.StateUsed, spelled: "ID-1", peer: "A", size: 256, stored: time.UnixMicro(1), inUse: time.UnixMicro(2),
		used: time.UnixMicro(3), frame: 7, octets: bytes.Repeat([]byte("k"), 32)}
}

// What decodes encodes to the same octets again.
func FuzzDecodeKey(f *testing.F) {
	state, plain := someKey().encode()
	f.Add(state, plain)
	f.Add(byte(0), []byte{})
	f.Add(byte(5), plain[:40])
	closed := someKey()
	closed.state, closed.octets, closed.atKM = kmclient.StateClosed, nil, true
	state, plain = closed.encode()
	f.Add(state, plain)
	f.Fuzz(func(t *testing.T, state byte, plain []byte) {
		k, err := decodeKey(state, plain)
		if err != nil {
			return
		}
		if s, p := k.encode(); s != state || !bytes.Equal(p, plain) {
			t.Errorf("%d %x became %d %x", state, plain, s, p)
		}
	})
}

func FuzzDecodeMessage(f *testing.F) {
	f.Add((&messageRecord{first: time.UnixMicro(1), last: time.UnixMicro(2), rcpts: make([][rcptSize]byte, 3)}).encode())
	f.Add([]byte{1})
	f.Fuzz(func(t *testing.T, plain []byte) {
		m, err := decodeMessage(plain)
		if err == nil && !bytes.Equal(m.encode(), plain) {
			t.Errorf("%x became %x", plain, m.encode())
		}
	})
}

// No value that was not sealed with the key opens, and none makes it panic.
func FuzzUnseal(f *testing.F) {
	key := StoreKey{bytes.Repeat([]byte("s"), storeKeySize)}
	n := Name{Kind: KindReceive, ID: "id"}
	good, err := key.seal([]byte("store"), 1, n, 2, []byte("plain"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:20])
	f.Fuzz(func(t *testing.T, value []byte) {
		if _, err := generationOf(value); err != nil {
			return
		}
		// Each process of a fuzzer has a good one of its own.
		if state, plain, err := key.unseal([]byte("store"), n, value); err == nil && (state != 2 || string(plain) != "plain") {
			t.Errorf("opened: %x", value)
		}
	})
}

func FuzzDecodeHead(f *testing.F) {
	f.Add([]byte(`{"version":1,"store_id":"AAAAAAAAAAAAAAAAAAAAAA==","generations":[{"number":1,"check":"AQ=="}]}`))
	f.Fuzz(func(t *testing.T, value []byte) {
		c, err := decodeHead(&Record{Value: value})
		if err == nil && (len(c.Generations) < 1 || len(c.StoreID) != 16) {
			t.Errorf("%+v", c)
		}
	})
}

func TestSealedSize(t *testing.T) {
	state, plain := someKey().encode()
	value, err := NewStoreKey().seal(make([]byte, 16), 1, Name{}, state, plain)
	if err != nil || len(value) > 250 {
		t.Errorf("a key of 256 bits takes %d octets (%v)", len(value), err)
	}
}
