package sim

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"time"
)

// dice make the random decisions of a run. A decision follows from the seed and from what
// it is about. That may be a moment, or how many keys there were before: then it can be
// another one if something before it changes.
type dice uint64

// about returns a source of randomness for whatever the parts name.
func (d dice) about(parts ...any) *rand.Rand {
	h := fnv.New64a()
	_ = binary.Write(h, binary.LittleEndian, uint64(d))
	for _, p := range parts {
		fmt.Fprint(h, p, "\x00")
	}
	return rand.New(rand.NewPCG(uint64(d), h.Sum64()))
}

// between returns a duration of at least a and less than b.
func between(r *rand.Rand, a, b time.Duration) time.Duration {
	return a + time.Duration(r.Int64N(int64(b-a)))
}

// one returns one of several.
func one[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }
