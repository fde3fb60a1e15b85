// Package otp implements the suite OTP: a one-time pad with a one-time
// authenticator. It uses no hash and no cipher, so it is secure against any
// computing power as long as keys are random and used once. docs/format.md,
// section 6, defines it; sizes are bytes.
//
// A payload is a sequence of frames, with nothing after the last:
//
//	frame  = flags(1) ‖ n(1) ‖ n × ID ‖ length(4, big-endian) ‖ ciphertext(length) ‖ tag(16)
//	flags  = bit 0: last frame; other bits 0
//	ID     = 0x00 ‖ UUID(16)  or  size(1) ‖ that many bytes of text
//	length ≤ 65,536, and 0 only if the frame is the only one
//
// The keys of a frame, in the order of their IDs, are divided like this:
//
//	first key  = s(16) ‖ r(16) ‖ pad…
//	other keys = unused(16) ‖ pad…
//	ciphertext = plaintext XOR the pads, one after the other; the rest is discarded
//	tag        = Poly1305(r, s) over pad16(control octets) ‖ pad16(frame up to the ciphertext)
//	             ‖ pad16(ciphertext) ‖ the three lengths ‖ frame number from 0
//	             (each u64 little-endian; pad16 appends zeros up to a multiple of 16)
//
// In hybrid suites, a [Layer] adds to this.
//
// Bytes 0 to 15 of a key are never pad. Anyone who knows a plaintext learns its pad by
// XOR, but nothing that could be the same key's s. So nobody can forge a frame that
// names one of these keys as its first.
package otp

import (
	"crypto/subtle"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/qkdmail/qkdmail/kmclient"
)

// Sizes and limits of a frame.
const (
	MaxFrame   = 65536    // bytes of plaintext
	MaxKeys    = 255      // keys per frame
	MaxIDs     = 1 << 18  // key IDs per message
	MaxIDBytes = 16 << 20 // total bytes of a message's key IDs, as spelled
	TagSize    = 16       // bytes
	// FrameOverhead is the size of a frame without key IDs and ciphertext, in
	// bytes: flags, n, length and tag.
	FrameOverhead = 2 + 4 + TagSize

	authSize   = 32 // bytes of the first key that are not pad: s and r
	unusedSize = 16 // bytes of every other key that are not pad
)

var (
	// ErrFrame means that a frame is malformed: it has unknown flags or no keys, or is
	// too long.
	ErrFrame = errors.New("malformed frame")
	// ErrTruncated means that the payload ends before its last frame.
	ErrTruncated = errors.New("payload cut short")
	// ErrTrailing means that something follows the last frame.
	ErrTrailing = errors.New("data after the last frame")
	// ErrTag means that the frame, its number, the control octets or the key
	// are not what the sender authenticated.
	ErrTag = errors.New("frame failed its authentication")
	// ErrKeyID means that the first key of frame 0 is not the one that the
	// control part names.
	ErrKeyID = errors.New("first key is not the one the header names")
	// ErrKeyRepeated means that a key ID occurs twice in one message.
	ErrKeyRepeated = errors.New("key ID named twice in one message")
	// ErrTooManyKeys means that a message has more than MaxIDs keys, or MaxIDBytes of
	// key IDs. All IDs are kept in memory, so that none is used twice.
	ErrTooManyKeys = fmt.Errorf("more than %d keys, or %d MiB of key IDs, in one message", MaxIDs, MaxIDBytes>>20)
	// ErrLimits means that the key manager's limits leave no key that could make a pad.
	ErrLimits = errors.New("the key manager's limits leave no key for a pad")
	// ErrShortKeys means that the keys have less pad than the frame needs.
	ErrShortKeys = errors.New("keys too short for the frame")
)

// An idSet is the set of key IDs of a message.
type idSet struct {
	seen  map[string]struct{}
	bytes int
}

func newIDSet() *idSet { return &idSet{seen: map[string]struct{}{}} }

// add adds the IDs of a frame.
func (s *idSet) add(ids ...string) error {
	for _, id := range ids {
		c := kmclient.CanonicalID(id)
		if u, err := uuid.Parse(c); err == nil {
			c = string(u[:]) // 16 bytes instead of 36, for up to 262,144 IDs
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

// xor sets dst to src XOR the pad in keys.
func xor(dst, src []byte, keys []*kmclient.Key) error {
	skip := authSize
	for _, k := range keys {
		key := k.Reveal()
		if len(key) < skip {
			return fmt.Errorf("%w: key %s has %d bits", ErrShortKeys, k.ID(), k.Size())
		}
		n := subtle.XORBytes(dst, src, key[skip:])
		dst, src = dst[n:], src[n:]
		skip = unusedSize
	}
	if len(src) > 0 {
		return fmt.Errorf("%w: %d bytes of pad are missing", ErrShortKeys, len(src))
	}
	return nil
}
