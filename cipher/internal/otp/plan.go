package otp

import "fmt"

// Limits is what a key manager accepts in one request; 0 means no limit.
type Limits struct {
	MinKeySize int // bits
	MaxKeySize int // bits
	MaxKeys    int // keys a request
}

// A plan is the key request for one frame.
type plan struct {
	size   int // bits of each key
	number int
}

// largest returns the octets of the longest key that can be asked for and the
// number of keys.
func (l Limits) largest() (octets, keys int) {
	octets = authSize + MaxFrame // no frame needs a longer one
	if m := l.MaxKeySize / 8; m > 0 {
		octets = min(octets, m)
	}
	keys = MaxKeys
	if l.MaxKeys > 0 {
		keys = min(keys, l.MaxKeys)
	}
	return octets, keys
}

// pad returns the octets of pad in n keys of this many octets.
func pad(n, octets int) int { return n*(octets-unusedSize) - (authSize - unusedSize) }

// capacity returns the octets of plaintext that a frame can hold with the keys
// of one request.
func (l Limits) capacity() (int, error) {
	octets, keys := l.largest()
	c := min(pad(keys, octets), MaxFrame)
	if octets < authSize || c < 1 {
		return 0, fmt.Errorf("%w: the key manager gives out %d × %d bits a request, and a pad needs more: use AES-256-GCM",
			ErrShortKeys, keys, octets*8)
	}
	return c, nil
}

// plan returns the request with the fewest keys that covers length octets, and
// of that the shortest keys: at most one octet a key is thrown away, unless
// the key manager has a minimum.
func (l Limits) plan(length int) plan {
	octets, _ := l.largest()
	n := 1
	for pad(n, octets) < length {
		n++
	}
	size := (length + (authSize - unusedSize) + n*unusedSize + n - 1) / n
	return plan{size: 8 * max(size, authSize, (l.MinKeySize+7)/8), number: n}
}
