package keystore

import (
	"bytes"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keystore/internal/sealed"
	"github.com/qkdmail/qkdmail/kmclient/keystore/internal/storekey"
)

func someKey() *keyRecord {
	return &keyRecord{state: kmclient.StateUsed, spelled: "ID-1", peer: "A", size: 256, stored: time.UnixMicro(1), inUse: time.UnixMicro(2),
		used: time.UnixMicro(3), frame: 7, bytes: bytes.Repeat([]byte("k"), 32)}
}

// A decoded record encodes to the same bytes again.
func FuzzDecodeKey(f *testing.F) {
	state, plain := someKey().encode()
	f.Add(state, plain)
	f.Add(byte(0), []byte{})
	f.Add(byte(5), plain[:40])
	closed := someKey()
	closed.state, closed.bytes, closed.atKM = kmclient.StateClosed, nil, true
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
	f.Add((&messageRecord{first: time.UnixMicro(1), last: time.UnixMicro(2), key: "ID-1", rcpts: make([]sealed.Recipient, 3)}).encode())
	f.Add([]byte{2})
	f.Add(make([]byte, 17+sealed.RecipientSize))
	f.Fuzz(func(t *testing.T, plain []byte) {
		m, err := decodeMessage(plain)
		if err == nil && plain[0] == 2 && !bytes.Equal(m.encode(), plain) {
			t.Errorf("%x became %x", plain, m.encode())
		}
	})
}

// A record of version 1 names no key.
func TestOldMessageRecord(t *testing.T) {
	m := &messageRecord{first: time.UnixMicro(1), last: time.UnixMicro(2), rcpts: make([]sealed.Recipient, 3)}
	plain := slices.Delete(m.encode(), 17, 18) // the length of the key's ID
	plain[0] = 1
	old, err := decodeMessage(plain)
	if err != nil || !reflect.DeepEqual(old, m) {
		t.Errorf("got %+v, %v, want %+v", old, err, m)
	}
}

func TestSealedSize(t *testing.T) {
	state, plain := someKey().encode()
	value, err := NewStoreKey().Seal(storekey.Place{Store: make([]byte, 16)}, 1, state, plain)
	if err != nil || len(value) > 250 {
		t.Errorf("a key of 256 bits takes %d bytes (%v)", len(value), err)
	}
}
