package sim

import (
	"regexp"
	"slices"
	"testing"
)

// chance matches what may differ in a trace: a message may take either of two keys that
// were there at the same moment.
var chance = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f-]{27}| client=\S+`)

// withoutChance returns a trace without what chance matches. Lines of the same millisecond
// are sorted.
func withoutChance(trace []string) []string {
	lines := slices.Clone(trace)
	for i := range lines {
		lines[i] = chance.ReplaceAllString(lines[i], "")
	}
	slices.Sort(lines) // each begins with its time
	return lines
}

// TestSameTrace: the same seed gives the same trace. If goroutines run in the same
// instant, the scheduler plays a part, so not every seed does.
func TestSameTrace(t *testing.T) {
	if testing.Short() {
		t.Skip("runs seeds twice, to see nothing new")
	}
	p := newTestPKI(t)
	const tried = 8
	same := 0
	for seed := range uint64(tried) {
		sc := newScenario(seed+1, 1, 10)
		a, b := withoutChance(run(t, p, sc, false).trace), withoutChance(run(t, p, sc, false).trace)
		at := 0
		for at < min(len(a), len(b)) && a[at] == b[at] {
			at++
		}
		if at == len(a) && at == len(b) {
			same++
			continue
		}
		line := func(trace []string) string {
			if at < len(trace) {
				return trace[at]
			}
			return "the end"
		}
		t.Logf("seed %d: line %d of %d:\n%s\n%s", seed+1, at+1, len(a), line(a), line(b))
	}
	t.Logf("%d of %d seeds have the same trace twice", same, tried)
	if same < tried/2 {
		t.Errorf("only %d of %d seeds have the same trace twice: what else is random?", same, tried)
	}
}
