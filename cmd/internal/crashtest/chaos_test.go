package crashtest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/cmd/internal/relaytest"
)

// A chaos does harm at random until it is stopped.
type chaos struct {
	seed   uint64
	relays []*relay
	ctx    context.Context
	cancel context.CancelFunc
	all    sync.WaitGroup
	n      uint64       // kinds of harm
	stops  atomic.Int64 // relays that were stopped gracefully
	stuck  atomic.Int64 // of these, the ones that did not end
	harsh  bool         // relays are killed or connections cut
}

func newChaos(seed uint64, relays []*relay) *chaos {
	c := &chaos{seed: seed, relays: relays}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	return c
}

// every calls harm after random pauses shorter than most.
func (c *chaos) every(most time.Duration, harm func(*rand.Rand)) {
	c.n++
	random := rand.New(rand.NewPCG(c.seed, 100+c.n))
	c.all.Go(func() {
		for {
			select {
			case <-c.ctx.Done():
				return
			case <-time.After(time.Duration(random.Int64N(int64(most)))):
				harm(random)
			}
		}
	})
}

// kills kills relays and starts them again a little later.
func (c *chaos) kills(most time.Duration) {
	c.harsh = true
	c.downs(most, func(*rand.Rand) bool { return true })
}

// downs ends relays, by a kill or gracefully, and starts them again a little
// later.
func (c *chaos) downs(most time.Duration, kill func(*rand.Rand) bool) {
	c.every(most, func(random *rand.Rand) {
		r := c.relays[random.IntN(len(c.relays))]
		if kill(random) {
			r.kill()
		} else if c.stops.Add(1); !r.stop() {
			c.stuck.Add(1)
		}
		time.Sleep(time.Duration(random.IntN(60)) * time.Millisecond)
		_ = r.start()
	})
}

// cuts cuts connections to the key managers and to the store: all those of a
// relay at once, or each after a random number of bytes.
func (c *chaos) cuts(most time.Duration) {
	c.harsh = true
	var limits sync.Mutex
	for i, r := range c.relays {
		random := rand.New(rand.NewPCG(c.seed, 200+uint64(i)))
		limit := func() int64 {
			limits.Lock()
			defer limits.Unlock()
			if random.IntN(10) > 0 {
				return 0
			}
			return 1 + random.Int64N(50<<10)
		}
		for _, g := range r.gates() {
			g.CutAfter(limit)
		}
	}
	c.every(most, func(random *rand.Rand) {
		gates := c.relays[random.IntN(len(c.relays))].gates()
		gates[random.IntN(len(gates))].CutAll()
	})
}

func (r *relay) gates() []*gate { return append([]*gate{r.km}, r.store...) }

// stop ends the harm and restarts all relays, so that they forget which keys were
// missing.
func (c *chaos) stop(t testing.TB) {
	t.Helper()
	c.cancel()
	c.all.Wait()
	for _, r := range c.relays {
		for _, g := range r.gates() {
			g.CutAfter(nil)
		}
		if !r.stop() {
			c.stuck.Add(1)
		}
	}
	startAll(t, c.relays)
}

// seconds returns how long things go wrong.
func seconds(t testing.TB) time.Duration {
	t.Helper()
	return time.Duration(relaytest.Number(t, secondsEnv, 60)) * time.Second
}

// run sends messages while harm is done, and waits until all have arrived.
func run(t *testing.T, w *world, c *chaos, long time.Duration) {
	t.Helper()
	logAtEnd(t, w.relays)
	w.harsh = c.harsh
	most := relaytest.Number(t, messagesEnv, 1<<30)
	number := 0
	for end := time.Now().Add(long); time.Now().Before(end) && number < most; {
		if w.sender.pending.Load()+w.wire.pending.Load() > 100 {
			time.Sleep(time.Millisecond)
			continue
		}
		w.submit(number)
		number++
	}
	c.stop(t)
	if n := c.stuck.Load(); n > 0 {
		t.Errorf("%d of %d relays that were stopped did not end", n, c.stops.Load())
	}
	w.wire.calm.Store(true)
	calm := time.Now()
	relaytest.Await(t, 2*time.Minute, fmt.Sprintf("all of %d messages arrived", number), w.done)
	for _, r := range w.relays {
		r.stop()
	}
	t.Logf("all had arrived %v after the last harm; %d relays were stopped gracefully", time.Since(calm).Round(time.Second), c.stops.Load())
}

// conclude fails the test if anything is wrong, and logs in one line what
// happened.
func (w *world) conclude(t testing.TB) {
	t.Helper()
	kept := keptIn(t, openStore(t, w.stores.decrypt, "SAE_B"))
	wrong := w.check(w.claimedIn(t, openStore(t, w.stores.encrypt, "SAE_A")), kept)
	for _, text := range wrong[:min(len(wrong), 20)] {
		t.Error(text)
	}
	if len(wrong) > 0 {
		t.Fatalf("%d things are wrong", len(wrong))
	}
	var kills, ends, kmCuts, storeCuts int
	for _, r := range w.relays {
		kills += len(r.faults)
		ends += r.ends
		cuts, _ := r.km.faults()
		kmCuts += cuts
		for _, g := range r.store {
			cuts, _ := g.faults()
			storeCuts += cuts
		}
	}
	if w.harsh && kills+kmCuts+storeCuts == 0 {
		t.Error("no relay was killed and no connection was cut: this proves nothing")
	}
	n := w.count
	t.Logf("%d messages to %d recipients, %d kills, %d connections to key managers and %d to the store cut: "+
		"all arrived; %d ciphertexts on the wire (%d MB, %d of them cut off) under %d of %d keys, none twice; "+
		"ciphertexts given up because their key was lost on its way: %d when a relay was killed, %d when the connection was cut, %d when the key manager did not answer, %d that waited in memory for the store; mail to %d recipients sent again for that; "+
		"%d encrypted twice and %d delivered twice because an answer was lost, %d recipients refused because the store failed, %d repeats vanished, %d forged ones refused; "+
		"%d keys kept, relays ended by themselves %d times",
		n.messages, n.recipients, kills, kmCuts, storeCuts,
		n.transmissions, n.bytes>>20, n.cut, len(w.used), w.link.number(),
		n.gone[byKill], n.gone[byCut], n.gone[byKM], n.gone[byStore], n.again, n.twiceEncrypted, n.twiceDelivered, n.noStore, n.vanished, n.forged, len(kept), ends)
}
