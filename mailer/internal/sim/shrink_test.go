package sim

import (
	"slices"
	"testing"
	"time"
)

// shrinkFor bounds how long a scenario is shrunk.
const shrinkFor = time.Minute

// shrink removes events from a scenario as long as it still violates the same invariant:
// first many at once, then one by one. It returns what is left, and the report of its
// last run.
func shrink(t *testing.T, p *pki, sc *scenario, invariant string) (*scenario, *report) {
	fails := func(events []event) *report {
		small := *sc
		small.Events = events
		r := run(t, p, &small, true)
		if slices.ContainsFunc(r.violations, func(v violation) bool { return v.invariant == invariant }) {
			return r
		}
		return nil
	}
	small := *sc
	best := fails(sc.Events)
	if best == nil { // the scheduler played a part
		return sc, run(t, p, sc, true)
	}
	for end, size := time.Now().Add(shrinkFor), max(1, len(sc.Events)/2); ; size = max(1, size/2) {
		shorter := false
		for at := 0; at < len(small.Events) && time.Now().Before(end); {
			events := slices.Delete(slices.Clone(small.Events), at, min(at+size, len(small.Events)))
			if r := fails(events); r != nil {
				small.Events, best, shorter = events, r, true
			} else {
				at += size
			}
		}
		if size == 1 && !shorter || time.Now().After(end) {
			return &small, best
		}
	}
}
