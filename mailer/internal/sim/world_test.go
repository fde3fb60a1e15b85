package sim

import (
	"crypto/tls"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/cryptotest"
	"testing/synctest"
	"time"
)

// A world is one run of a scenario.
type world struct {
	sc       *scenario
	dice     dice
	pki      *pki
	kmeTLS   *tls.Config
	start    time.Time
	calm     time.Time // when the last trouble has ended and the last mail was sent
	net      *network
	sites    []*site
	attacker *attacker
	ledger   *ledger
	dir      string // of certificates and real files
	tasks    sync.WaitGroup
	verbose  bool
	troubles map[[2]string][]event // by kind and where

	mu         sync.Mutex
	violations []violation
	counts     map[string]int
	trace      []string
}

// A violation is an invariant that does not hold, or something equally bad.
type violation struct{ invariant, text string }

func (v violation) String() string { return v.invariant + ": " + v.text }

// A report is the outcome of a run.
type report struct {
	violations []violation
	counts     map[string]int
	trace      []string
}

// run runs a scenario in a bubble of its own.
func run(t *testing.T, p *pki, sc *scenario, verbose bool) (r *report) {
	w := &world{sc: sc, dice: dice(sc.Seed), pki: p, verbose: verbose, counts: map[string]int{}}
	defer func() {
		if e := recover(); e != nil { // goroutines are left that nothing will wake
			w.violate("leak", "%v", e)
		}
		r = &report{w.violations, w.counts, w.trace}
	}()
	w.dir = t.TempDir()
	defer os.RemoveAll(w.dir)
	synctest.Test(t, func(t *testing.T) {
		cryptotest.SetGlobalRandom(t, sc.Seed)
		w.build()
		w.play()
		w.drain()
		w.end()
		w.ledger.check()
	})
	return nil
}

func (w *world) build() {
	w.start = time.Now()
	w.calm = w.start.Add(calm(w.sc.Events))
	w.net = newNetwork(w)
	w.ledger = newLedger(w)
	w.troubles = map[[2]string][]event{}
	for _, e := range w.sc.Events {
		if e.P > 0 {
			w.troubles[[2]string{e.Kind, e.Where}] = append(w.troubles[[2]string{e.Kind, e.Where}], e)
		}
	}
	var err error
	if w.kmeTLS, err = w.pki.server(); err != nil {
		panic(err)
	}
	for i := range w.sc.Sites {
		w.sites = append(w.sites, newSite(w, i))
	}
	for i, a := range w.sites {
		for _, b := range w.sites[:i] {
			l := newQKDLink(w, a, b)
			a.links[b.sae], b.links[a.sae] = l, l
		}
	}
	w.attacker = newAttacker(w)
	for _, s := range w.sites {
		s.start()
	}
}

// play makes the events happen, each at its time.
func (w *world) play() {
	var all sync.WaitGroup
	for _, e := range w.sc.Events {
		time.Sleep(time.Until(w.start.Add(e.At)))
		if e.Kind != "mail" {
			w.tracef("event: %v", e)
		}
		w.count("event: " + e.Kind)
		all.Go(func() { w.happen(e) })
	}
	all.Wait()
}

// happen makes an event happen. Whatever a trouble affects looks it up.
func (w *world) happen(e event) {
	switch e.Kind {
	case "mail":
		m := w.newMail(e)
		w.ledger.sent(m)
		m.from.queue.add(&entry{mail: m, name: m.String(), from: m.sender, data: m.data, left: m.rcpts})
	case "kill":
		w.node(e.Where).arm(w.dice.about("steps", e.N).IntN(60), e.For)
	case "stop":
		w.restart(w.node(e.Where), e)
	case "reload":
		w.site(e.Where).reload()
	case "upgrade":
		w.site(e.Where).upgrade(e.For)
	case "clock":
		n := w.node(e.Where)
		n.setClock(wrongClock(w.dice.about("clock", e.N)))
		time.Sleep(e.For)
		n.setClock(0)
	case "store-restore":
		w.site(e.Where).restore(e.For)
	case "certificate":
		w.site(e.Where).renew()
	case "rotate":
		w.site(e.Where).rotate(e.N)
	case "kme-restart", "kme-restore":
		w.site(e.Where).kmeEvent(e)
	case "attack":
		w.attacker.strike(e.Where, e.N)
	default:
		if !isTrouble(e.Kind) {
			panic("no such kind of event: " + e.Kind)
		}
	}
}

// restart stops a relay, and starts it again after a while. Sometimes it is killed
// meanwhile: a stop has few steps.
func (w *world) restart(n *node, e event) {
	dice := w.dice.about("restart of a relay", e.N)
	maybe := func() {
		if dice.IntN(2) == 0 {
			n.arm(dice.IntN(4), e.For)
		}
	}
	maybe()
	n.hold()
	time.Sleep(e.For)
	maybe()
	n.release()
}

// calm returns when the last trouble has ended and the last mail was sent. Attacks go on
// after that: they keep no mail in a queue.
func calm(events []event) (at time.Duration) {
	for _, e := range events {
		if e.Kind != "attack" {
			at = max(at, e.At+e.For)
		}
	}
	return at
}

// drain waits until the queues are empty. Postfix gives up after five days, so they are in
// the end.
func (w *world) drain() {
	for _, s := range w.sites {
		s.queue.work.Wait()
	}
	for _, s := range w.sites {
		s.wire.work.Wait()
	}
	w.tasks.Wait()
	for _, s := range w.sites {
		for _, n := range s.nodes {
			n.disarm()
		}
	}
	time.Sleep(20 * time.Minute) // for slow mail systems and connections
}

// end stops everything. What is left then is a leak.
func (w *world) end() {
	for _, s := range w.sites {
		for _, n := range s.nodes {
			n.finish()
		}
		s.verify()
		_ = s.kme.Close()
	}
	time.Sleep(20 * time.Minute)
	w.net.close()
	w.counts["simulated days"] = int(time.Since(w.start).Hours() / 24)
}

// trouble returns how likely a kind of trouble is now at some place, 0 for none.
func (w *world) trouble(kind, where string) (p float64) {
	now := time.Since(w.start)
	for _, e := range w.troubles[[2]string{kind, where}] {
		if e.At <= now && now < e.At+e.For {
			p = max(p, e.P)
		}
	}
	return p
}

// linkTroubled reports whether the way from a site's relays to its KME had any trouble in
// a span of time. Connections are cut when they have carried enough, perhaps long after
// the trouble in which they began.
func (w *world) linkTroubled(s *site, from, to time.Time) bool {
	for _, n := range s.nodes {
		link := n.name + ">" + s.name + "-kme"
		if near(w.net.cutsOf(link), from, to) {
			return true
		}
		for _, kind := range []string{"slow", "down", "lost"} {
			for _, e := range w.troubles[[2]string{kind, link}] {
				if at := w.start.Add(e.At); at.Before(to) && at.Add(e.For).After(from) {
					return true
				}
			}
		}
	}
	return false
}

// keyOf returns the key with an ID, nil if there is none.
func (w *world) keyOf(id string) *qkdKey {
	for _, s := range w.sites {
		for _, l := range s.links {
			if k := l.key(id); k != nil {
				return k
			}
		}
	}
	return nil
}

// diceNow returns a source of randomness for whatever the parts name, at this moment.
func (w *world) diceNow(parts ...any) *rand.Rand {
	return w.dice.about(append(parts, time.Since(w.start))...)
}

// fate decides what becomes of a connection.
func (w *world) fate(link string) fate {
	r := w.diceNow("fate", link)
	troubled := func(kind string) bool { return r.Float64() < w.trouble(kind, link) }
	f := fate{latency: between(r, 50*time.Microsecond, time.Millisecond)}
	if strings.Contains(link, "-mta>") || strings.HasPrefix(link, "attacker") {
		f.latency = between(r, 5*time.Millisecond, 150*time.Millisecond)
	}
	f.refused, f.lost, f.cut = troubled("down"), troubled("lost"), troubled("cut")
	if troubled("slow") {
		f.slow = true
		f.latency += between(r, 0, 20*time.Second)
	}
	if troubled("silent") {
		f.cut, f.silent = true, true
	}
	f.up = r.IntN(2) == 0
	f.after = cutAfter(r, link, f.up)
	return f
}

// handshake is about how many bytes of TLS each side sends before a request or an answer.
const handshake = 1900

// cutAfter returns after how many bytes a connection is cut: in what opens it, or in what
// follows. up: of those that the client sends.
func cutAfter(r *rand.Rand, link string, up bool) int64 {
	kme := strings.HasSuffix(link, "-kme")
	switch {
	case kme && r.IntN(4) == 0:
		return r.Int64N(handshake)
	case kme && up: // requests
		return handshake + r.Int64N(one(r, int64(300), 2000))
	case kme: // answers, which can have many long keys
		return handshake + r.Int64N(one(r, int64(600), 2000, 90_000))
	case up: // commands and messages
		return r.Int64N(one(r, int64(400), 3400, 3400, 6000, 6000, 12_400, 150_000))
	}
	return r.Int64N(one(r, int64(400), 400, 1000)) // replies, to one transaction or several
}

func (w *world) site(name string) *site { return w.sites[slices.Index(siteNames, name[:1])] }

func (w *world) node(name string) *node { return w.site(name).nodes[int(name[1]-'1')] }

func (w *world) violate(invariant, format string, args ...any) {
	v := violation{invariant, fmt.Sprintf(format, args...)}
	w.tracef("VIOLATION %v", v)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.violations = append(w.violations, v)
}

func (w *world) count(what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.counts[what]++
}

// maxTrace is how much of a trace is kept, in lines.
const maxTrace = 100_000

func (w *world) tracef(format string, args ...any) {
	at := time.Since(w.start)
	text := fmt.Sprintf("%2dd %v  %s", int(at.Hours()/24), time.Unix(0, 0).UTC().Add(at).Format("15:04:05.000"), fmt.Sprintf(format, args...))
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.trace) < maxTrace {
		w.trace = append(w.trace, text)
	}
}

// add adds the counts of from to those of to.
func add(to, from map[string]int) {
	for _, k := range slices.Sorted(maps.Keys(from)) {
		to[k] += from[k]
	}
}
