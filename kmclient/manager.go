package kmclient

import (
	"bytes"
	"context"
	"fmt"
	"hash/maphash"
)

// A KeyManager hands out keys that its counterpart at the other site holds as
// well. Its methods may be called from several goroutines at the same time.
//
// peer is the SAE ID of the other side: the one that will decrypt for GetKeys,
// the one that encrypted for KeysByID. Key managers that know no SAEs ignore
// it; callers then pass the empty string.
type KeyManager interface {
	// Status reports the link to peer and the limits of the key manager.
	Status(ctx context.Context, peer string) (Status, error)

	// GetKeys fetches number fresh keys of size bits each. It returns as many, or
	// fewer if the key manager gives no more now, or an error and no key. All are
	// of that size: a longer key is refused as a shorter one is, since only this
	// side knows how much of it was asked for, and the other side gets all of it.
	// Whether there are keys is for the key manager to say then, and not for its
	// Status before. It is not idempotent.
	GetKeys(ctx context.Context, peer string, size, number int) ([]*Key, error)

	// KeysByID fetches the keys with these IDs, in this order. If one of them
	// is missing the error is an ErrKeyNotFound and no key is returned.
	KeysByID(ctx context.Context, peer string, ids ...string) ([]*Key, error)

	// CloseKey says that a key has served its purpose; the key manager
	// deletes it. An unknown key is an ErrKeyNotFound.
	CloseKey(ctx context.Context, id string) error
}

// A Lister is a KeyManager that can tell which keys it stores.
type Lister interface {
	// ListKeys returns the stored keys without their bytes, oldest first
	// where the key manager knows their order.
	ListKeys(ctx context.Context) ([]KeyInfo, error)
}

// DeletesOnDelivery reports whether km says that its key manager deletes a key
// when it gives it out, as ETSI GS QKD 014 has it. A caller must then keep a key
// that it may need again, and CloseKey has nothing to do. km says so with a method
// DeletesOnDelivery() bool, or the key manager behind it does that it returns from
// a method Unwrap() KeyManager.
func DeletesOnDelivery(km KeyManager) bool {
	for km != nil {
		if d, ok := km.(interface{ DeletesOnDelivery() bool }); ok {
			return d.DeletesOnDelivery()
		}
		u, ok := km.(interface{ Unwrap() KeyManager })
		if !ok {
			return false
		}
		km = u.Unwrap()
	}
	return false
}

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
			return fmt.Errorf("%w: key %s: asked for %d bits and got %d", ErrBadKey, showID(k.ID()), size, k.Size())
		}
		b := k.Reveal()
		if len(b) == 0 {
			return fmt.Errorf("%w: key %s: empty", ErrBadKey, showID(k.ID()))
		}
		ids[CanonicalID(k.ID())] = struct{}{}
		if len(b) < minJudged {
			continue
		}
		if bytes.Equal(b[1:], b[:len(b)-1]) { // ends at the first that differs
			return fmt.Errorf("%w: key %s: all octets equal", ErrBadKey, showID(k.ID()))
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
