package kmhttp

import (
	"errors"
	"testing"

	"github.com/qkdmail/qkdmail/kmclient"
)

// TestByteOrderMark: servers on some systems begin an answer with one.
func TestByteOrderMark(t *testing.T) {
	key := `{"key_ID":"key-1","key":"AQIDBAUGBwgJCgsMDQ4PEA=="}`
	if keys, err := DecodeKeys([]byte("\uFEFF"+`{"keys":[`+key+`]}`), 128, 1); err != nil || len(keys) != 1 {
		t.Errorf("%d keys, %v", len(keys), err)
	}
	if _, err := DecodeKey([]byte("\uFEFF"+key), "key-1"); err != nil {
		t.Error(err)
	}
	if _, err := DecodeKey([]byte("\uFEFF\uFEFF"+key), "key-1"); !errors.Is(err, kmclient.ErrBadAnswer) {
		t.Errorf("two byte order marks: %v", err)
	}
}

// FuzzAnswer gives any bytes as an answer: nothing may panic, and keys come out as
// asked for or not at all.
func FuzzAnswer(f *testing.F) {
	f.Fuzz(func(t *testing.T, body []byte) {
		if keys, err := DecodeKeys(body, 128, 2); err == nil {
			if len(keys) < 1 || len(keys) > 2 || len(keys[0].Reveal()) != 16 || len(keys[len(keys)-1].Reveal()) != 16 {
				t.Errorf("asked for 2 keys of 16 bytes, got %v", keys)
			}
		} else if keys != nil || !errors.Is(err, kmclient.ErrBadAnswer) && !errors.Is(err, kmclient.ErrBadKey) && !errors.Is(err, kmclient.ErrKeyExhausted) {
			t.Errorf("got %d keys and %v", len(keys), err)
		}
		if k, err := DecodeKey(body, "key-1"); err == nil {
			if k.ID() != "key-1" || k.Size() != len(k.Reveal())*8 {
				t.Errorf("asked for key-1, got %v", k)
			}
		} else if k != nil {
			t.Error("an error and a key")
		}
	})
}
