// Package otp is the suite OTP: a one-time pad with a one-time authenticator.
// No hash, no cipher: what it promises holds against any computing power, as
// far as the keys are random and used once.
//
// A payload is a sequence of frames, with nothing after the last:
//
//	frame  = flags(1) ‖ n(1) ‖ n × ID ‖ length(4, big-endian) ‖ ciphertext(length) ‖ tag(16)
//	flags  = bit 0: the last frame; the others 0
//	ID     = 0x00 ‖ UUID(16)  or  size(1) ‖ that many octets of text
//	length ≤ 65,536, and 0 only where the frame is the only one
//
// The keys of a frame, in the order of their IDs, are cut up so:
//
//	first key  = s(16) ‖ r(16) ‖ pad…
//	other keys = unused(16) ‖ pad…
//	ciphertext = plaintext XOR the pads one after the other; what is left over is thrown away
//	tag        = Poly1305(r, s) over pad16(control octets) ‖ pad16(frame up to the ciphertext)
//	             ‖ pad16(ciphertext) ‖ the three lengths ‖ frame number from 0
//	             (each u64 little-endian; pad16 fills with zeros to a multiple of 16)
//
// Octets 0–15 of no key are ever pad. Who knows a plaintext learns its pad by
// XOR, but never octets that could be s under the same key: a frame that names
// any of these keys as its first still can't be forged.
package otp

import (
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/qkdmail/qkdmail/kmclient"
	//lint:ignore SA1019 The package is deprecated as a trap for those who reuse
	// a Poly1305 key. Here its key is 32 octets of a quantum key that
	// authenticate one frame and are then wiped: the one use for which
	// Poly1305's bound holds without any assumption.
	"golang.org/x/crypto/poly1305"
)

// Sizes and limits of a frame.
const (
	MaxFrame   = 65536    // octets of plaintext
	MaxKeys    = 255      // keys a frame
	MaxIDs     = 1 << 18  // key IDs a message
	MaxIDBytes = 16 << 20 // bytes of all key IDs of a message, as they are spelled
	TagSize    = 16
	// FrameOverhead is what a frame has beside its key IDs and ciphertext:
	// flags, n, length and tag, in bytes.
	FrameOverhead = 2 + 4 + TagSize

	authSize   = 32 // octets of the first key that are not pad: s and r
	unusedSize = 16 // octets of every other key that are not pad
)

var (
	// ErrFrame: a frame that can't be: unknown flags, no keys, too long.
	ErrFrame = errors.New("malformed frame")
	// ErrTruncated: the payload ends before its last frame does.
	ErrTruncated = errors.New("payload cut short")
	// ErrTrailing: something follows the last frame.
	ErrTrailing = errors.New("data after the last frame")
	// ErrTag: the frame, its number, the control octets or the key are not
	// what the sender authenticated.
	ErrTag = errors.New("frame failed its authentication")
	// ErrKeyID: frame 0 does not begin with the key that the header names.
	ErrKeyID = errors.New("first key is not the one that the header names")
	// ErrKeyRepeated: a key ID a second time in one message.
	ErrKeyRepeated = errors.New("key ID named twice in one message")
	// ErrTooManyKeys: more than MaxIDs keys, or MaxIDBytes of their IDs, in one
	// message. Every ID of a message is remembered so that none comes twice; that
	// needs a bound.
	ErrTooManyKeys = fmt.Errorf("more than %d keys, or %d MiB of key IDs, in one message", MaxIDs, MaxIDBytes>>20)
	// ErrLimits: no key that the key manager's limits allow makes a pad.
	ErrLimits = errors.New("the key manager's limits leave no key for a pad")
	// ErrShortKeys: the keys hold less pad than the frame needs.
	ErrShortKeys = errors.New("keys too short for the frame")
)

// An idSet holds the key IDs of a message.
type idSet struct {
	seen  map[string]struct{}
	bytes int
}

func newIDSet() *idSet { return &idSet{seen: map[string]struct{}{}} }

// add enters the IDs of a frame.
func (s *idSet) add(ids ...string) error {
	for _, id := range ids {
		c := kmclient.CanonicalID(id)
		if u, err := uuid.Parse(c); err == nil {
			c = string(u[:]) // 16 octets instead of 36: a message may have 262,144 of them
		}
		if _, ok := s.seen[c]; ok {
			return fmt.Errorf("%w: %s", ErrKeyRepeated, id)
		}
		if s.bytes += len(id); len(s.seen) >= MaxIDs || s.bytes > MaxIDBytes {
			return ErrTooManyKeys
		}
		s.seen[c] = struct{}{}
	}
	return nil
}

// xor sets dst to src XOR the pad that keys hold.
func xor(dst, src []byte, keys []*kmclient.Key) error {
	skip := authSize
	for _, k := range keys {
		octets := k.Reveal()
		if len(octets) < skip {
			return fmt.Errorf("%w: key %s has %d bits", ErrShortKeys, k.ID(), k.Size())
		}
		n := subtle.XORBytes(dst, src, octets[skip:])
		dst, src = dst[n:], src[n:]
		skip = unusedSize
	}
	if len(src) > 0 {
		return fmt.Errorf("%w: %d octets of pad are missing", ErrShortKeys, len(src))
	}
	return nil
}

// authenticator feeds Poly1305 what a frame's tag is computed over.
func authenticator(first *kmclient.Key, control, header, ciphertext []byte, number uint64) (*poly1305.MAC, error) {
	octets := first.Reveal()
	if len(octets) < authSize {
		return nil, fmt.Errorf("%w: key %s has %d bits", ErrShortKeys, first.ID(), first.Size())
	}
	var key [32]byte // Poly1305 takes r before s
	copy(key[:16], octets[16:32])
	copy(key[16:], octets[:16])
	mac := poly1305.New(&key)
	clear(key[:])

	var zeros [16]byte
	var tail [32]byte
	for i, part := range [][]byte{control, header, ciphertext} {
		_, _ = mac.Write(part)
		if n := len(part) % 16; n > 0 {
			_, _ = mac.Write(zeros[n:])
		}
		binary.LittleEndian.PutUint64(tail[8*i:], uint64(len(part)))
	}
	binary.LittleEndian.PutUint64(tail[24:], number)
	_, _ = mac.Write(tail[:])
	return mac, nil
}
