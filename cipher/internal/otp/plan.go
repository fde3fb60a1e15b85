package otp

import (
	"fmt"

	"github.com/qkdmail/qkdmail/kmclient"
)

// Limits are the key sizes that a key manager offers; 0 means no limit. The number of
// keys in a request is not among them: the keys of a frame may take several requests.
type Limits struct {
	MinKeySize int // bits
	MaxKeySize int // bits

	frameKeys int // keys per frame, for tests with small frames; 0: MaxKeys
}

// A plan is how many keys a frame takes, and of which size.
type plan struct {
	size   int // bits of each key
	number int
}

// A Cost is what a message takes.
type Cost struct {
	Frames, Keys int64
	KeySize      int   // bits of the longest key
	KeyBytes     int64 // of all keys together
}

// largest returns the size in bytes of the longest key to ask for, and the number
// of keys in a frame.
func (l Limits) largest() (bytes, keys int) {
	bytes = authSize + MaxFrame // no frame needs a longer one
	if l.MaxKeySize > 0 {
		bytes = min(bytes, l.MaxKeySize/8)
	}
	keys = MaxKeys
	if l.frameKeys > 0 {
		keys = l.frameKeys
	}
	return bytes, keys
}

// pad returns the size of the pad in n keys of this many bytes.
func pad(n, bytes int) int { return n*(bytes-unusedSize) - (authSize - unusedSize) }

// capacity returns how many bytes of plaintext a frame can hold. The error wraps
// ErrLimits.
func (l Limits) capacity() (int, error) {
	bytes, keys := l.largest()
	least := (l.MinKeySize + 7) / 8
	switch {
	case bytes < authSize:
		return 0, fmt.Errorf("%w: it gives keys of at most %d bits, and a pad takes keys of %d bits or more", ErrLimits, l.MaxKeySize, 8*authSize)
	case l.MaxKeySize > 0 && least > l.MaxKeySize/8:
		return 0, fmt.Errorf("%w: its shortest key, of %d bits, is longer than its longest, of %d bits", ErrLimits, l.MinKeySize, l.MaxKeySize)
	case 8*least > kmclient.MaxRequestSize:
		return 0, fmt.Errorf("%w: its shortest key has %d bits, and at most %d can be asked for", ErrLimits, l.MinKeySize, kmclient.MaxRequestSize)
	}
	return min(pad(keys, bytes), MaxFrame), nil
}

// plan returns the fewest keys that cover length bytes, of the shortest size that does.
// So at most one byte per key is discarded, unless the key manager has a minimum size.
func (l Limits) plan(length int) plan {
	bytes, _ := l.largest()
	n := 1
	for pad(n, bytes) < length {
		n++
	}
	size := (length + (authSize - unusedSize) + n*unusedSize + n - 1) / n
	return plan{size: 8 * max(size, authSize, (l.MinKeySize+7)/8), number: n}
}

// Cost returns what a message of this many bytes takes. The error wraps ErrLimits or
// ErrTooManyKeys.
func (l Limits) Cost(size int64) (Cost, error) {
	c, err := l.capacity()
	if err != nil {
		return Cost{}, err
	}
	full := max(size-1, 0) / int64(c) // frames before the last
	if full >= MaxIDs {
		return Cost{}, ErrTooManyKeys
	}
	each, last := l.plan(c), l.plan(int(size-full*int64(c)))
	cost := Cost{
		Frames: full + 1, Keys: full*int64(each.number) + int64(last.number), KeySize: last.size,
		KeyBytes: full*int64(each.number*each.size/8) + int64(last.number*last.size/8),
	}
	if full > 0 {
		cost.KeySize = max(cost.KeySize, each.size)
	}
	if cost.Keys > MaxIDs {
		return Cost{}, ErrTooManyKeys
	}
	return cost, nil
}
