package otp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/google/uuid"
	"github.com/qkdmail/qkdmail/cipher/internal/suitetest"
	"github.com/qkdmail/qkdmail/kmclient"
	//lint:ignore SA1019 see otp.go
	"golang.org/x/crypto/poly1305"
)

// TestTamper alters a payload of three frames in every way there is. A flip of any bit,
// including key IDs, and a cut at any byte must be refused, and only what precedes it
// released.
func TestTamper(t *testing.T) {
	limits := Limits{MaxKeySize: 512, frameKeys: 3} // frames of 128 bytes
	s := newKeyStore()
	plain := suitetest.Random(300)
	payload, keyID := seal(t, s, limits, plain, len(plain))
	f := split(t, payload)
	if len(f) != 3 {
		t.Fatalf("%d frames, want 3", len(f))
	}
	s.control = []byte("control octets of another message")
	other, _ := seal(t, s, limits, suitetest.Random(300), 300)
	o := split(t, other)

	type test struct {
		name     string
		payload  []byte
		want     []error // one of these
		released int
	}
	tests := []test{
		{"swapped frames", slices.Concat(f[1], f[0], f[2]), []error{ErrKeyID}, 0},
		{"swapped later frames", slices.Concat(f[0], f[2], f[1]), []error{ErrTrailing}, 128},
		{"repeated frame", slices.Concat(f[0], f[0], f[1], f[2]), []error{ErrKeyRepeated}, 128},
		{"dropped frame", slices.Concat(f[0], f[2]), []error{ErrTag}, 128},
		{"dropped first frame", slices.Concat(f[1], f[2]), []error{ErrKeyID}, 0},
		{"dropped last frame", slices.Concat(f[0], f[1]), []error{ErrTruncated}, 256},
		{"frame appended", slices.Concat(payload, o[2]), []error{ErrTrailing}, 256},
		{"byte appended", slices.Concat(payload, []byte{0}), []error{ErrTrailing}, 256},
		{"frame of another message", slices.Concat(f[0], o[1], f[2]), []error{ErrTag}, 128},
		{"another message", other, []error{ErrKeyID}, 0},
		{"nothing", nil, []error{ErrTruncated}, 0},
		{"no keys", []byte{1, 0, 0, 0, 0, 0}, []error{ErrFrame}, 0},
		{"unknown flag", append([]byte{f[0][0] | 2}, payload[1:]...), []error{ErrFrame}, 0},
		{"blank in an ID", append([]byte{1, 1, 3}, "a b\x00\x00\x00\x00"...), []error{ErrFrame}, 0},
		{"frame too long", append([]byte{1, 1, 1, 'a'}, 0, 1, 0, 1), []error{ErrFrame}, 0},
		{"empty frame that is not the last", append([]byte{0, 1, 1, 'a'}, 0, 0, 0, 0), []error{ErrFrame}, 0},
		{"empty last frame after others", slices.Concat(f[0], append([]byte{1, 1, 1, 'a'}, make([]byte, 4+TagSize)...)), []error{ErrFrame}, 128},
	}
	edges := []int{len(f[0]), len(f[0]) + len(f[1]), len(payload)}
	releasedBefore := func(at int) int {
		for i, e := range edges {
			if at < e {
				return i * 128
			}
		}
		return 256
	}
	for bit := range 8 * len(payload) {
		p := bytes.Clone(payload)
		p[bit/8] ^= 1 << (bit % 8)
		tests = append(tests, test{fmt.Sprintf("bit %d", bit), p, []error{
			ErrTag, ErrFrame, ErrTruncated, ErrTrailing, ErrKeyID, ErrKeyRepeated, kmclient.ErrKeyNotFound,
		}, releasedBefore(bit / 8)})
	}
	for cut := range payload {
		tests = append(tests, test{fmt.Sprintf("cut at %d", cut), payload[:cut], []error{ErrTruncated}, releasedBefore(cut)})
	}
	for _, tt := range tests {
		got, err := open(s, tt.payload, keyID)
		if !slices.ContainsFunc(tt.want, func(want error) bool { return errors.Is(err, want) }) {
			t.Errorf("%s: error %v, want one of %v", tt.name, err, tt.want)
		}
		if len(got) > tt.released || !bytes.HasPrefix(plain, got) {
			t.Errorf("%s: released %d bytes, but at most %d are authentic", tt.name, len(got), tt.released)
		}
	}
}

// TestForgedFrame plays an author who derives the pad of a message from its plaintext
// and forges a frame under one of its keys. The author knows all of each key except its
// first 16 bytes (32 of the first key), which is not enough.
func TestForgedFrame(t *testing.T) {
	s := newKeyStore()
	plain := suitetest.Random(100)
	payload, _ := seal(t, s, Limits{MaxKeySize: 512, frameKeys: 3}, plain, len(plain))
	f, err := NewFrameReader(bytes.NewReader(payload)).Next()
	if err != nil {
		t.Fatal(err)
	}
	for i, id := range f.KeyIDs {
		known := bytes.Clone(s.keys[id])
		clear(known[:16]) // no frame reveals these
		if i == 0 {
			clear(known[:32])
		}
		forged := forge(id, known, []byte("pay the bearer"))
		if got, err := open(s, forged, id); !errors.Is(err, ErrTag) || len(got) > 0 {
			t.Errorf("forged under key %d: released %q, error %v, want %v", i, got, err, ErrTag)
		}
		// With the whole key the frame opens: so only the 16 bytes were missing, and
		// the test is right.
		if got, err := open(s, forge(id, s.keys[id], plain[:20]), id); err != nil || !bytes.Equal(got, plain[:20]) {
			t.Errorf("with the whole key: %q, error %v", got, err)
		}
	}
}

// forge returns a frame, made from the layout in the package comment without the
// code under test.
func forge(id string, key, plain []byte) []byte {
	u := uuid.MustParse(id)
	frame := append([]byte{1, 1, 0}, u[:]...)
	frame = binary.BigEndian.AppendUint32(frame, uint32(len(plain)))
	var in []byte
	pad16 := func(b []byte) { in = append(append(in, b...), make([]byte, (16-len(b)%16)%16)...) }
	ciphertext := make([]byte, len(plain))
	for i := range plain {
		ciphertext[i] = plain[i] ^ key[32+i]
	}
	pad16(control)
	pad16(frame)
	pad16(ciphertext)
	for _, n := range []int{len(control), len(frame), len(ciphertext), 0} {
		in = binary.LittleEndian.AppendUint64(in, uint64(n))
	}
	var tag [16]byte
	poly1305.Sum(&tag, in, (*[32]byte)(slices.Concat(key[16:32], key[:16])))
	return slices.Concat(frame, ciphertext, tag[:])
}

// TestKeysFrameByFrame checks that no key is fetched for the frames after one that
// fails.
func TestKeysFrameByFrame(t *testing.T) {
	s := newKeyStore()
	payload, keyID := seal(t, s, Limits{MaxKeySize: 512, frameKeys: 3}, suitetest.Random(1000), 1000)
	frames := split(t, payload)
	frames[1][len(frames[1])-1] ^= 1
	if _, err := open(s, slices.Concat(frames...), keyID); !errors.Is(err, ErrTag) {
		t.Fatalf("error %v, want %v", err, ErrTag)
	}
	if len(s.asked) != 2 {
		t.Errorf("keys were fetched for %d frames, want 2: frame 1 fails", len(s.asked))
	}
}

// FuzzReader reads any payload: only the one message that was made with the keys may be
// released.
func FuzzReader(f *testing.F) {
	s := newKeyStore()
	n := byte(0)
	s.newID = func() string { n++; return uuid.UUID{15: n}.String() }
	plain := []byte("From: a@example.org\n\nhello, this takes more than one frame\n")
	payload, keyID := seal(f, s, Limits{MaxKeySize: 384, frameKeys: 2}, plain, len(plain))
	f.Add(payload)
	f.Add([]byte{1, 1, 1, 'a', 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := open(s, b, keyID)
		if err == nil && !bytes.Equal(b, payload) || !bytes.HasPrefix(plain, got) {
			t.Fatalf("a forged payload gave %d bytes, error %v", len(got), err)
		}
	})
}
