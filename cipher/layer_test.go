package cipher_test

import (
	"bytes"
	"crypto/subtle"
	"errors"
	"slices"
	"testing"

	"github.com/qkdmail/qkdmail/cipher"
)

// TestKeyManagerAltersKeys plays an operator of the receiving site's key manager who
// gives out other keys than the sender got. With a pad alone, the operator could flip
// bits of the text and of the recipient list, and the tag would still be right.
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

// TestKeyManagerAsks plays an operator of the key manager who learns from which
// messages open, by flipping a bit of s in a key and the same bit of the tag. The
// operator must be able to predict the outcome from the key and what is on the wire:
// then it says nothing about the text or X-Wing's secret.
func TestKeyManagerAsks(t *testing.T) {
	km := newTestKM()
	outer := encrypt(t, km, []byte(shortMessage), &cipher.EncryptOptions{Suite: cipher.SuiteOTPXWing})
	id := km.given[0].ID()
	key, payload := km.keys[id], payloadOf(t, outer)
	first := func(key []byte) []byte { return firstTag(t, outer, payload, key) }
	opened := 0
	for bit := range 128 {
		altered := bytes.Clone(key)
		altered[bit/8] ^= 1 << (bit % 8)
		km.keys[id] = altered
		forged := bytes.Clone(payload)
		forged[len(forged)-16+bit/8] ^= 1 << (bit % 8)
		flipped := first(key)
		flipped[bit/8] ^= 1 << (bit % 8)
		want := bytes.Equal(first(altered), flipped)
		got, err := decrypt(t, km, replacePayload(outer, forged), nil)
		if want != (err == nil) || err == nil && string(got) != shortMessage || err != nil && !errors.Is(err, cipher.ErrAltered) {
			t.Fatalf("bit %d of s: released %q, error %v; the operator expects it to open: %v", bit, got, err, want)
		}
		if err == nil {
			opened++
		}
	}
	if opened == 0 {
		t.Error("no message opened, so nothing was asked")
	}
}

// firstTag returns the tag that a key makes of the only frame of a payload with X-Wing.
func firstTag(t *testing.T, outer, payload, key []byte) []byte {
	t.Helper()
	values, _ := (&vector{message: outer}).control(t)
	f, err := indTakeFrame(&indTaker{payload[hybridBegin:]}, 0)
	if err != nil {
		t.Fatal(err)
	}
	return indPoly1305(key[16:32], key[:16], slices.Concat(payload[:hybridBegin], f.data(values, f.ciphertext)))
}

// TestEncOfAnother plays an attacker who has broken X-Wing and knows the text, but no
// key. With another enc the ciphertext becomes another text, and the attacker makes the
// second tag for it. But the first tag covers enc.
func TestEncOfAnother(t *testing.T) {
	km := newTestKM()
	outer := encrypt(t, km, []byte(shortMessage), &cipher.EncryptOptions{Suite: cipher.SuiteOTPXWing})
	values, control := (&vector{message: outer}).control(t)
	payload := payloadOf(t, outer)
	shared, err := newIndPrivate(counted(32)).decapsulate(payload[32:hybridBegin])
	if err != nil {
		t.Fatal(err)
	}
	f, err := indTakeFrame(&indTaker{payload[hybridBegin:]}, 0)
	if err != nil {
		t.Fatal(err)
	}
	// second returns the second tag of a text, and what is XORed with the text after it.
	second := func(begin, secret, text []byte) (tag, stream []byte) {
		s := indStream(secret, 0)
		auth, stream := make([]byte, 32), make([]byte, len(text))
		s.XORKeyStream(auth, auth)
		s.XORKeyStream(stream, stream)
		return indPoly1305(auth[16:], auth[:16], slices.Concat(begin, f.data(values, text))), stream
	}
	begin, secret := (&vector{seeds: [][]byte{counted(32)}, message: outer}).encapsulate(t)
	text := append(make([]byte, 4), shortMessage...)
	was, streamWas := second(payload[:hybridBegin], indSecret(shared, control), text)
	_, stream := second(begin, secret, text)
	subtle.XORBytes(text, text, streamWas)
	subtle.XORBytes(text, text, stream)
	is, _ := second(begin, secret, text)

	forged := slices.Concat(begin, payload[hybridBegin:])
	tag := forged[len(forged)-16:]
	before := bytes.Clone(tag)
	subtle.XORBytes(tag, tag, was)
	subtle.XORBytes(tag, tag, is)
	mustRefuse(t, "another enc, with its second tag", km, replacePayload(outer, forged), nil, cipher.ErrAltered, 1)

	// With the first tag for the new enc it opens, so that is what the attacker lacks.
	key := km.keys[km.given[0].ID()]
	subtle.XORBytes(tag, firstTag(t, outer, payload, key), firstTag(t, outer, forged, key))
	subtle.XORBytes(tag, tag, before)
	subtle.XORBytes(tag, tag, was)
	subtle.XORBytes(tag, tag, is)
	if _, err := decrypt(t, km, replacePayload(outer, forged), nil); errors.Is(err, cipher.ErrAltered) {
		t.Errorf("with the key: %v", err)
	}
}
