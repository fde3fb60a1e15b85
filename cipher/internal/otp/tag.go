package otp

import (
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
	"fmt"

	"github.com/qkdmail/qkdmail/kmclient"
	//lint:ignore SA1019 The package is deprecated as a trap for those who reuse
	// a Poly1305 key. Here its key is 32 bytes of a quantum key that
	// authenticate one frame and are then wiped: the one use for which
	// Poly1305's bound needs no assumption.
	"golang.org/x/crypto/poly1305"
)

// A Layer is what a hybrid suite adds to a frame (docs/format.md, section 10.5): a key
// stream over the pad, and a tag of the plaintext, which is XORed with that of the
// ciphertext. Whoever gives out the keys could otherwise change the pad, and the
// plaintext with it; they have no influence on the layer.
type Layer struct {
	// Begin is what precedes the frames in the payload, a multiple of 16 bytes. Both
	// tags cover it.
	Begin []byte
	// Stream has s and r of the second tag first, and then what is XORed with the
	// plaintext.
	Stream cipher.Stream
}

// A sealing encrypts or decrypts one frame.
type sealing struct {
	keys    []*kmclient.Key
	layer   *Layer   // nil: none
	second  [32]byte // s and r of the layer
	control []byte
	header  []byte
	number  uint64
}

// newSealing prepares to encrypt or decrypt a frame.
func newSealing(keys []*kmclient.Key, layers func(number uint64) (Layer, error), control, header []byte, number uint64) (*sealing, error) {
	s := &sealing{keys: keys, control: control, header: header, number: number}
	if len(keys[0].Reveal()) < authSize {
		return nil, fmt.Errorf("%w: key %s has %d bits", ErrShortKeys, keys[0].ID(), keys[0].Size())
	}
	if layers == nil {
		return s, nil
	}
	layer, err := layers(number)
	if err != nil {
		return nil, err
	}
	s.layer = &layer
	layer.Stream.XORKeyStream(s.second[:], s.second[:])
	return s, nil
}

// wipe clears what newSealing derived.
func (s *sealing) wipe() { clear(s.second[:]) }

// encrypt sets ciphertext, which may be plain, and returns the tag.
func (s *sealing) encrypt(ciphertext, plain []byte) (tag [TagSize]byte, err error) {
	second := s.secondTag(plain)
	if err := s.xor(ciphertext, plain); err != nil {
		return tag, err
	}
	tag = s.firstTag(ciphertext)
	subtle.XORBytes(tag[:], tag[:], second[:])
	return tag, nil
}

// decrypt verifies the tag and replaces text, the ciphertext, with the plaintext. It
// calls verified in between. With a Layer the tag needs the plaintext, so decryption
// comes first. After an error, text must not be used.
func (s *sealing) decrypt(text []byte, tag [TagSize]byte, verified func() error) error {
	got := s.firstTag(text)
	if s.layer != nil {
		if err := s.xor(text, text); err != nil {
			return err
		}
		second := s.secondTag(text)
		subtle.XORBytes(got[:], got[:], second[:])
	}
	if subtle.ConstantTimeCompare(got[:], tag[:]) != 1 {
		return ErrTag
	}
	if err := verified(); err != nil || s.layer != nil {
		return err
	}
	return s.xor(text, text)
}

// xor sets dst to src XOR the pad, and the key stream of the layer.
func (s *sealing) xor(dst, src []byte) error {
	if err := xor(dst, src, s.keys); err != nil {
		return err
	}
	if s.layer != nil {
		s.layer.Stream.XORKeyStream(dst, dst)
	}
	return nil
}

// firstTag returns the tag of a ciphertext under the first key.
func (s *sealing) firstTag(ciphertext []byte) [TagSize]byte {
	return s.poly1305(s.keys[0].Reveal()[:authSize], ciphertext)
}

// secondTag returns the tag of a plaintext that the layer adds; without a layer, zero.
func (s *sealing) secondTag(plain []byte) (tag [TagSize]byte) {
	if s.layer != nil {
		tag = s.poly1305(s.second[:], plain)
	}
	return tag
}

// poly1305 returns the Poly1305 of everything that the tag of text covers, under auth,
// which is s and r.
func (s *sealing) poly1305(auth, text []byte) (tag [TagSize]byte) {
	var key [32]byte // Poly1305 takes r before s
	copy(key[:16], auth[16:32])
	copy(key[16:], auth[:16])
	mac := poly1305.New(&key)
	clear(key[:])

	if s.layer != nil {
		_, _ = mac.Write(s.layer.Begin)
	}
	var zeros [16]byte
	var tail [32]byte
	for i, part := range [][]byte{s.control, s.header, text} {
		_, _ = mac.Write(part)
		if n := len(part) % 16; n > 0 {
			_, _ = mac.Write(zeros[n:])
		}
		binary.LittleEndian.PutUint64(tail[8*i:], uint64(len(part)))
	}
	binary.LittleEndian.PutUint64(tail[24:], s.number)
	_, _ = mac.Write(tail[:])
	mac.Sum(tag[:0])
	return tag
}
