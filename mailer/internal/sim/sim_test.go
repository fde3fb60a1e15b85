package sim

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

var (
	firstSeed = flag.Uint64("seed", 1, "the first seed")
	seeds     = flag.Int("seeds", 0, "how many seeds; 0: as many as the time allows")
	days      = flag.Int("days", 1, "days of mail and troubles per seed")
	perDay    = flag.Int("mails", 20, "mails per day")
	budget    = flag.Duration("for", 5*time.Second, "how long, in processor time, if -seeds is 0")
	goOn      = flag.Bool("go-on", false, "go on after a violation, and shrink nothing")
	shrinks   = flag.Bool("shrink", true, "shrink a scenario that fails")
	verbose   = flag.Bool("trace", false, "show the trace of each run")
)

// TestSeeds runs scenarios one after the other. The first that violates an invariant is
// shrunk and shown.
func TestSeeds(t *testing.T) {
	p := newTestPKI(t)
	total := map[string]int{}
	began, ran := cpuTime(), 0
	for seed := *firstSeed; *seeds == 0 && cpuTime()-began < *budget || ran < *seeds; seed++ {
		sc := newScenario(seed, *days, *perDay)
		r := run(t, p, sc, *verbose)
		ran++
		add(total, r.counts)
		if *verbose {
			show(t, r)
		}
		if len(r.violations) > 0 {
			t.Errorf("seed %d of %d days, %d mails a day: %v", seed, *days, *perDay, r.violations)
			if *goOn {
				continue
			}
			if !*shrinks {
				break
			}
			small, why := shrink(t, p, sc, r.violations[0].invariant)
			show(t, why)
			t.Errorf("the shortest scenario that was found, for testdata/regressions:\n%s", small.JSON())
			break
		}
	}
	took := cpuTime() - began
	t.Logf("%d seeds, %d simulated days in %v of processor time: %.0f a second", ran, total["simulated days"], took.Round(time.Millisecond), float64(total["simulated days"])/took.Seconds())
	for _, what := range slices.Sorted(maps.Keys(total)) {
		t.Logf("%8d %s", total[what], what)
	}
}

// cpuTime returns how much processor time this process has used.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// TestRegressions runs the scenarios that once violated an invariant.
func TestRegressions(t *testing.T) {
	p := newTestPKI(t)
	for _, file := range regressions(t) {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".json"), func(t *testing.T) {
			sc, err := readScenario(file)
			if err != nil {
				t.Fatal(err)
			}
			if r := run(t, p, sc, *verbose); len(r.violations) > 0 {
				show(t, r)
				t.Errorf("%s: %v", file, r.violations)
			}
		})
	}
}

// regressions returns the files of scenarios that once violated an invariant.
func regressions(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", "regressions", "*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("testdata/regressions has no scenarios: %v", err)
	}
	return files
}

// readScenario reads a file of testdata/regressions. It refuses fields that scenarios no
// longer have: without what they say, the scenario would show nothing.
func readScenario(file string) (*scenario, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	sc := new(scenario)
	d := json.NewDecoder(f)
	d.DisallowUnknownFields()
	return sc, d.Decode(sc)
}

func newTestPKI(t testing.TB) *pki {
	var saes []string
	for _, name := range siteNames {
		saes = append(saes, "SAE_"+name)
	}
	return newPKI(t, saes...)
}

func show(t *testing.T, r *report) {
	for _, line := range r.trace {
		fmt.Println(line)
	}
}
