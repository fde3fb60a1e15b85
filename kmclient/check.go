package kmclient

import (
	"bytes"
	"fmt"
	"hash/maphash"

	"github.com/qkdmail/qkdmail/kmclient/internal/redact"
)

// The most that one call may ask for. A larger answer would need more memory than a
// mail system should spend on keys.
const (
	MaxRequestKeys = 4096    // keys
	MaxRequestSize = 8 << 20 // bits of one key
)

// CheckSize reports whether size, in bits, can be the size of a key.
func CheckSize(size int) error {
	if size <= 0 || size%8 != 0 {
		return fmt.Errorf("%w: key size %d: must be a positive multiple of 8 bits", ErrBadRequest, size)
	}
	return nil
}

// minJudged is the size in bytes from which all bytes of a key are never equal by
// chance, nor two keys the same.
const minJudged = 8

// CheckKeys reports whether keys answers a request for number keys of size bits each,
// where size 0 means any. It refuses what no working source of randomness produces: a
// key whose bytes are all equal, and two keys with the same ID or the same bytes (keys
// under 64 bits may have these by chance). The error wraps ErrBadKey.
func CheckKeys(keys []*Key, size, number int) error {
	if len(keys) != number {
		return fmt.Errorf("%w: asked for %d keys and got %d", ErrBadKey, number, len(keys))
	}
	return checkEach(keys, size)
}

// CheckFresh is CheckKeys for the answer to GetKeys, which may have fewer keys
// than number, but at least one.
func CheckFresh(keys []*Key, size, number int) error {
	if len(keys) == 0 || len(keys) > number {
		return fmt.Errorf("%w: asked for %d keys and got %d", ErrBadKey, number, len(keys))
	}
	return checkEach(keys, size)
}

// checkEach checks each key, and that no two are the same.
func checkEach(keys []*Key, size int) error {
	judged := 0
	ids := make(map[string]struct{}, len(keys))
	seed := maphash.MakeSeed()
	sums := make(map[uint64]struct{}, len(keys)) // a hash is not a copy of the key
	for _, k := range keys {
		if err := CheckID(k.ID()); err != nil {
			return err
		}
		if size != 0 && k.Size() != size {
			return fmt.Errorf("%w: key %s: asked for %d bits and got %d", ErrBadKey, redact.ID(k.ID()), size, k.Size())
		}
		b := k.Reveal()
		if len(b) == 0 {
			return fmt.Errorf("%w: key %s: empty", ErrBadKey, redact.ID(k.ID()))
		}
		ids[CanonicalID(k.ID())] = struct{}{}
		if len(b) < minJudged {
			continue
		}
		if bytes.Equal(b[1:], b[:len(b)-1]) { // stops at the first difference
			return fmt.Errorf("%w: key %s: all bytes equal", ErrBadKey, redact.ID(k.ID()))
		}
		if len(keys) > 1 { // a single key, which may be long, needs no comparison
			judged++
			sums[maphash.Bytes(seed, b)] = struct{}{}
		}
	}
	if len(ids) != len(keys) {
		return fmt.Errorf("%w: the same key ID twice in one answer", ErrBadKey)
	}
	if len(sums) != judged {
		return fmt.Errorf("%w: two keys of one answer have the same bytes", ErrBadKey)
	}
	return nil
}

// CheckIDs reports whether ids can be asked for in one call: 1 to MaxRequestKeys, all
// different, each accepted by CheckID. The error wraps ErrBadRequest.
func CheckIDs(ids []string) error {
	if len(ids) < 1 || len(ids) > MaxRequestKeys {
		return fmt.Errorf("%w: %d key IDs: must be 1 to %d", ErrBadRequest, len(ids), MaxRequestKeys)
	}
	seen := make(map[string]struct{}, len(ids))
	for _, id := range ids {
		if err := CheckID(id); err != nil {
			return fmt.Errorf("%w: %v", ErrBadRequest, err) // not wrapped: ErrBadKey would blame the key manager
		}
		seen[CanonicalID(id)] = struct{}{}
	}
	if len(seen) != len(ids) {
		return fmt.Errorf("%w: the same key ID twice", ErrBadRequest)
	}
	return nil
}
