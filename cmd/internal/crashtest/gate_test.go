package crashtest

import (
	"slices"
	"sync"
	"testing"

	"github.com/qkdmail/qkdmail/cmd/internal/relaytest"
)

// A gate is a relay's connection to a key manager or a store. It knows when it
// cut connections.
type gate struct {
	*relaytest.Gate

	mu   sync.Mutex
	cuts int // connections
	when []span
}

func newGate(t testing.TB, o *order, target string) *gate {
	t.Helper()
	g := &gate{}
	g.Gate = relaytest.NewGate(t, target, relaytest.GateHooks{Cut: func(n int, cut func()) {
		begin := o.now()
		cut()
		g.mu.Lock()
		defer g.mu.Unlock()
		g.cuts += n
		g.when = append(g.when, span{begin, o.now()})
	}})
	return g
}

// faults returns how many connections were cut, and when.
func (g *gate) faults() (cuts int, when []span) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.cuts, slices.Clone(g.when)
}
