package sim

import (
	"flag"
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"
	"time"
)

var year = flag.Int("year", 0, "days of steady mail after which nothing may have grown")

// A footprint is what the relays take up at a moment when nothing is under way.
type footprint struct {
	goroutines, conns, records int
	heap                       int64
}

func (f footprint) String() string {
	return fmt.Sprintf("%d goroutines, %d connections, %d records, %d KiB", f.goroutines, f.conns, f.records, f.heap>>10)
}

// TestYear: in a year of steady mail, what the relays take up grows until the tombstones
// of the first keys are removed, and then no more, except for claims, which are kept for
// good.
func TestYear(t *testing.T) {
	const settled = 120 // days: keys are closed after 7, tombstones go after 60 more, deliveries later
	if *year < settled+30 {
		t.Skip("takes a minute: run scripts/simulate -year 365")
	}
	sc := &scenario{Seed: 1, Days: *year, Sites: 2, Nodes: 2, LMTP: true, Close: "after:7d"}
	for day := range *year {
		for i := range *perDay {
			at := time.Duration(day)*24*time.Hour + time.Duration(i)*20*time.Hour/time.Duration(*perDay)
			sc.Events = append(sc.Events, event{At: at, Kind: "mail", N: day**perDay + i + 1})
		}
	}
	w := &world{sc: sc, dice: 1, pki: newTestPKI(t), dir: t.TempDir(), counts: map[string]int{}}
	var before, now footprint
	synctest.Test(t, func(*testing.T) {
		w.build()
		events := sc.Events
		for day := 30; day <= *year; day += 30 {
			n := min(30**perDay, len(events))
			sc.Events, events = events[:n], events[n:]
			w.play()
			time.Sleep(time.Until(w.start.Add(time.Duration(day) * 24 * time.Hour)))
			w.ledger.check()
			w.forget()
			now = w.footprint()
			t.Logf("day %d: %v", day, now)
			if day == settled {
				before = now
			}
		}
		sc.Events = nil
		w.drain()
		w.end()
	})
	if len(w.violations) > 0 {
		t.Error(w.violations)
	}
	const claims = 8 << 20 // bytes that a year's claims take here
	if now.goroutines > before.goroutines+4 || now.conns > before.conns+4 || now.records > before.records*5/4 || now.heap > before.heap+claims {
		t.Errorf("from day %d to day %d it grew:\n%v\n%v", settled, *year, before, now)
	}
}

// forget forgets all mail, so that only what the relays keep takes memory.
func (w *world) forget() {
	w.attacker = newAttacker(w)
	for _, s := range w.sites {
		s.wire.onTheWire = w.attacker.onTheWire
		for _, l := range s.links {
			l.mu.Lock()
			l.order = [2][]*qkdKey{}
			clear(l.keys)
			l.mu.Unlock()
		}
	}
	w.ledger = newLedger(w)
	w.trace = nil
}

func (w *world) footprint() (f footprint) {
	synctest.Wait()
	f.goroutines = runtime.NumGoroutine()
	for _, n := range w.net.openConns() {
		f.conns += n
	}
	for _, s := range w.sites {
		f.records += s.records.Load().Len()
	}
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // and drop what is in pools
	runtime.ReadMemStats(&m)
	f.heap = int64(m.HeapAlloc)
	return f
}
