package cipher_test

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/qkdmail/qkdmail/cipher"
)

// TestKeyManagerAltersKeys plays the one who runs the key manager of the receiving site and
// gives out other keys than the sender got. Of a pad alone he could change the text bit by
// bit, and the list of recipients, with the tag as it is.
func TestKeyManagerAltersKeys(t *testing.T) {
	for _, suite := range hybridSuites {
		km := newTestKM()
		outer := encrypt(t, km, []byte(shortMessage), &cipher.EncryptOptions{Suite: suite, Recipients: []string{"bob@b.example"}})
		id := km.given[0].ID()
		key := km.keys[id]
		for bit := range 8 * len(key) {
			altered := bytes.Clone(key)
			altered[bit/8] ^= 1 << (bit % 8)
			km.keys[id] = altered
			got, err := decrypt(t, km, outer, nil)
			// Poly1305 ignores some bits of r.
			if inR := suite.Plain() == cipher.SuiteOTP && bit/8 >= 16 && bit/8 < 32; inR && err == nil && string(got) == shortMessage {
				continue
			}
			if !errors.Is(err, wrongSecret(suite)) || len(got) > 0 {
				t.Fatalf("%s: bit %d of the key: released %q, error %v", suite, bit, got, err)
			}
		}
	}
}

// TestKeyManagerAsks plays the one who runs the key manager and learns from which messages
// open: he flips a bit of s in the key that he gives out and the same bit of the tag. The
// message may open where the two flips cancel out, and never another one.
func TestKeyManagerAsks(t *testing.T) {
	km := newTestKM()
	outer := encrypt(t, km, []byte(shortMessage), &cipher.EncryptOptions{Suite: cipher.SuiteOTPXWing})
	id := km.given[0].ID()
	key, payload := km.keys[id], payloadOf(t, outer)
	for bit := range 128 {
		altered := bytes.Clone(key)
		altered[bit/8] ^= 1 << (bit % 8)
		km.keys[id] = altered
		forged := bytes.Clone(payload)
		forged[len(forged)-16+bit/8] ^= 1 << (bit % 8)
		got, err := decrypt(t, km, replacePayload(outer, forged), nil)
		if err == nil && string(got) != shortMessage || err != nil && !errors.Is(err, cipher.ErrAltered) {
			t.Fatalf("bit %d of s: released %q, error %v", bit, got, err)
		}
	}
}

// TestEncUnderKeys plays the one who has broken X-Wing and knows the text, but no key: he
// makes another enc, with which the ciphertext becomes another text, and the second tag for
// it. The first tag has enc in it.
func TestEncUnderKeys(t *testing.T) {
	km := newTestKM()
	outer := encrypt(t, km, []byte(shortMessage), &cipher.EncryptOptions{Suite: cipher.SuiteOTPXWing})
	h := newHalfway(t, cipher.SuiteOTPXWing, outer)
	begin, secret := (&vector{seeds: [][]byte{counted(32)}, message: outer}).encapsulate(t)
	mustRefuse(t, "another enc", km, replacePayload(outer, slices.Concat(begin, h.plain)), nil, cipher.ErrAltered, 1)
	// With all of the key it opens, so it is the 32 bytes that he lacks.
	made := h.forge(t, append(make([]byte, 4), shortMessage...), begin, km.keys[h.keyID], secret)
	if got, err := decrypt(t, km, made, nil); err != nil || string(got) != shortMessage {
		t.Errorf("with the key: %q, error %v", got, err)
	}
	known := bytes.Clone(km.keys[h.keyID])
	clear(known[:32])
	known[0] = 1
	mustRefuse(t, "another enc and text", km, h.forge(t, append(make([]byte, 4), shortMessage...), begin, known, secret), nil, cipher.ErrAltered, 1)
}
