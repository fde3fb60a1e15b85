package kmclient

import (
	"bytes"
	"fmt"
	"hash/maphash"

	"github.com/qkdmail/qkdmail/kmclient/internal/redact"
)

// CheckSize reports whether size, in bits, can be the size of a key.
func CheckSize(size int) error {
	if size <= 0 || size%8 != 0 {
		return fmt.Errorf("%w: key size %d: must be a positive multiple of 8 bits", ErrBadRequest, size)
	}
	return nil
}

// minJudged is the size in octets from which chance does not make all octets
// of a key equal, nor two keys the same.
const minJudged = 8

// CheckKeys reports whether keys answers a request for number keys of size
// bits each, where size 0 means any. It refuses what no working source of
// randomness would give: a key whose octets are all equal, two keys with the
// same ID or with the same octets (keys under 64 bits may have those by
// chance). The error is an ErrBadKey.
func CheckKeys(keys []*Key, size, number int) error {
	if len(keys) != number {
		return fmt.Errorf("%w: asked for %d keys and got %d", ErrBadKey, number, len(keys))
	}
	return checkEach(keys, size)
}

// CheckFresh reports whether keys answers a request for number fresh keys: it is
// CheckKeys, but there may be fewer keys, one at least.
func CheckFresh(keys []*Key, size, number int) error {
	if len(keys) == 0 || len(keys) > number {
		return fmt.Errorf("%w: asked for %d keys and got %d", ErrBadKey, number, len(keys))
	}
	return checkEach(keys, size)
}

// checkEach looks at each key, and whether some are the same.
func checkEach(keys []*Key, size int) error {
	judged := 0
	ids := make(map[string]struct{}, len(keys))
	seed := maphash.MakeSeed()
	sums := make(map[uint64]struct{}, len(keys)) // a sum leaves no copy of the key behind
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
		if bytes.Equal(b[1:], b[:len(b)-1]) { // ends at the first that differs
			return fmt.Errorf("%w: key %s: all octets equal", ErrBadKey, redact.ID(k.ID()))
		}
		if len(keys) > 1 { // one alone, which may be long, needs no comparison
			judged++
			sums[maphash.Bytes(seed, b)] = struct{}{}
		}
	}
	if len(ids) != len(keys) {
		return fmt.Errorf("%w: the same key ID twice in one answer", ErrBadKey)
	}
	if len(sums) != judged {
		return fmt.Errorf("%w: two keys of one answer have the same octets", ErrBadKey)
	}
	return nil
}

// What a client of the QMail REST API asks for in one call, at most. Above, an
// answer would need more memory than a mail system should give to keys.
const (
	MaxRequestKeys = 4096    // keys
	MaxRequestSize = 8 << 20 // bits of one key
)

// CheckIDs reports whether ids can be asked for.
func CheckIDs(ids []string) error {
	if len(ids) < 1 || len(ids) > MaxRequestKeys {
		return fmt.Errorf("%w: %d key IDs: must be 1 to %d", ErrBadRequest, len(ids), MaxRequestKeys)
	}
	seen := make(map[string]struct{}, len(ids))
	for _, id := range ids {
		if err := CheckID(id); err != nil {
			return err
		}
		seen[CanonicalID(id)] = struct{}{}
	}
	if len(seen) != len(ids) {
		return fmt.Errorf("%w: the same key ID twice", ErrBadRequest)
	}
	return nil
}
