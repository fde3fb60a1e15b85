package sim

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/qkdmail/qkdmail/kmclient/etsi014"
	"github.com/qkdmail/qkdmail/kmclient/keypool"
	"github.com/qkdmail/qkdmail/kmclient/keystore"
	"github.com/qkdmail/qkdmail/mailer/relay"
	"github.com/qkdmail/qkdmail/mailer/relay/config"
)

// A node is a machine with a relay that encrypts and decrypts.
type node struct {
	site     *site
	name, ip string

	mu    sync.Mutex
	lives int
	life  *life // nil: it is down
	armed int   // steps until it is killed; 0: it won't be
	after time.Duration
	wrong time.Duration  // how far its clock is ahead
	held  int            // how many want it to be down
	ends  sync.WaitGroup // of lives
}

// A life is a relay from its start to its end, like a process. After a SIGKILL its
// goroutines still run, but nothing that they do has an effect. What ends it is one of
// node.start, if it fails, node.kill, or node.stop.
type life struct {
	node   *node
	number int
	host   *host
	relay  *relay.Relay
	km     *etsi014.Client
	engine keystore.Engine
	store  *keystore.Store
	pool   *keypool.Pool
	end    context.CancelFunc
	served chan struct{} // nil: it does not serve

	cutsOff bool // messages took too long when it was stopped; set before served is closed

	begun, stopped chan struct{} // closed when begin and stop have ended
	up, stops      bool          // begun, being stopped; guarded by node.mu

	mu   sync.Mutex
	dead bool
}

// start starts the relay, unless someone wants it to be down, and tries again until it
// runs: a failing store delays that.
func (n *node) start() {
	n.mu.Lock()
	if n.life != nil || n.held > 0 {
		n.mu.Unlock()
		return
	}
	n.lives++
	ctx, end := context.WithCancel(context.Background())
	l := &life{node: n, number: n.lives, end: end, begun: make(chan struct{}), stopped: make(chan struct{})}
	n.life = l
	n.mu.Unlock()
	err := l.begin(ctx)
	n.mu.Lock()
	ours := n.life == l && !l.stops // else it was killed, or is being stopped
	if l.up = err == nil; ours && !l.up {
		n.life = nil
	}
	close(l.begun)
	n.mu.Unlock()
	if !ours {
		return
	}
	if err == nil {
		n.site.world.tracef("%s: starts, life %d", n.name, l.number)
		return
	}
	n.site.world.tracef("%s: does not start: %v", n.name, err)
	l.die()
	l.host.kill()
	l.close(0)
	n.later(10*time.Second, n.start)
}

// later calls f after a while.
func (n *node) later(d time.Duration, f func()) {
	n.ends.Go(func() {
		time.Sleep(d)
		f()
	})
}

func (l *life) begin(ctx context.Context) error {
	n, w := l.node, l.node.site.world
	log := slog.New(&logHandler{life: l})
	l.host = w.net.host(n.name, n.ip)
	l.host.step, l.host.wrong = l.step, n.clockError
	if n.clockError() != 0 {
		w.ledger.startedWrong(n.site)
	}
	keys, err := l.openKeys(ctx, log)
	if err != nil {
		return err
	}
	if l.relay, err = relay.NewOn(l.host, n.config(), keys, log); err != nil {
		return err
	}
	if err = l.relay.Listen(ctx); err != nil {
		return err
	}
	l.served = make(chan struct{})
	go func() {
		defer close(l.served)
		l.cutsOff = errors.Is(l.relay.Serve(ctx), context.DeadlineExceeded)
	}()
	n.ends.Go(func() { l.sweep(ctx) })
	return nil
}

// openKeys opens the key manager, the store and the pool.
func (l *life) openKeys(ctx context.Context, log *slog.Logger) (keys relay.Keys, err error) {
	n, w, began := l.node, l.node.site.world, time.Now()
	l.km, err = etsi014.New(etsi014.Options{
		URLs: []string{"https://" + kmeIP(n.site.index) + ":443"}, SAE: n.site.sae, Dial: l.host.DialContext,
		CertFile: n.site.certificate() + ".crt", KeyFile: n.site.certificate() + ".key", CAFile: w.pki.file("ca.crt"), Logger: log,
	})
	if err != nil {
		return keys, err
	}
	if l.engine, err = n.site.engine(ctx, l.around); err != nil {
		return keys, err
	}
	l.store, err = keystore.Open(ctx, l.km, keystore.Options{
		Engine: l.engine, Key: n.site.storeKeys, SAE: n.site.sae, KM: "kme", Close: n.site.closing, SweepEvery: -1, Logger: log,
		Now: l.host.Now, Running: func() time.Duration { return time.Since(began) },
	})
	if err != nil {
		l.store = nil
		return keys, err
	}
	keys = relay.Keys{Source: l.store, Finder: l.store, Binder: l.store, Deliveries: l.store, Claims: l.store}
	if w.sc.Pool {
		if l.pool, err = keypool.New(l.store, keypool.Options{Batch: 8, Low: 2, Max: 16, Logger: log}); err != nil {
			return keys, err
		}
		keys.Source = l.pool
	}
	return keys, nil
}

// sweep sweeps the store as the store itself would, but at moments that the dice decide.
func (l *life) sweep(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(between(l.node.site.world.diceNow("sweep", l.node.name), 30*time.Minute, 90*time.Minute)):
		}
		_ = l.store.Sweep(ctx)
	}
}

// around makes the store behave like its disk, and counts the relay's steps.
func (l *life) around(op string, do func() error) error {
	l.step()
	err := l.node.site.disk(l.node.name, op, l.isDead, do)
	l.step()
	if l.isDead() { // it is written, and nobody knows
		err = failed(op)
	}
	return err
}

func (l *life) isDead() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.dead
}

func (l *life) die() {
	l.mu.Lock()
	l.dead = true
	l.mu.Unlock()
	if l.engine != nil { // a write to a real file is finished in the same instant
		_ = l.engine.Close()
	}
}

// arm makes the node be killed after some more steps, and started again after a while. A
// step is a call of the store, or something sent.
func (n *node) arm(steps int, downFor time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.armed, n.after = max(steps, 1), downFor
}

// step counts a step of this life, unless it is over.
func (l *life) step() {
	n := l.node
	n.mu.Lock()
	if n.armed == 0 || n.life != l {
		n.mu.Unlock()
		return
	}
	n.armed--
	now := n.armed == 0
	n.mu.Unlock()
	if now {
		n.kill(l)
	}
}

// kill is SIGKILL, then a start after a while, unless the relay is to be down. The relay
// may be starting or stopping.
func (n *node) kill(l *life) {
	n.mu.Lock()
	if n.life != l {
		n.mu.Unlock()
		return
	}
	n.life, n.armed = nil, 0
	after, what := n.after, "kill of a relay"
	switch {
	case l.stops:
		what += " that stops"
	case !l.up:
		what += " that starts"
	}
	stops := l.stops
	n.mu.Unlock()
	l.die()
	l.host.kill()
	n.site.world.tracef("%s: %s", n.name, what)
	n.site.world.count(what)
	n.site.world.ledger.ended(n.site)
	if !stops {
		n.ends.Go(func() { l.bury(0) })
	}
	n.later(after, n.start)
}

// bury waits until a life has ended. What is under way has some time to end well.
func (l *life) bury(within time.Duration) {
	l.end()
	<-l.begun
	if l.served != nil {
		<-l.served
	}
	l.close(within)
}

// setClock sets the node's clock wrong by some time; 0: right.
func (n *node) setClock(ahead time.Duration) {
	n.site.world.tracef("%s: the clock is set %v ahead", n.name, ahead)
	n.site.world.ledger.clockSet(n.site)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.wrong = ahead
}

func (n *node) clockError() time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.wrong
}

// hold stops the relay, and lets nobody start it until release.
func (n *node) hold() {
	n.mu.Lock()
	n.held++
	l := n.life
	first := l != nil && !l.stops
	if first {
		l.stops = true
	}
	n.mu.Unlock()
	if first {
		n.stop(l)
	} else if l != nil {
		<-l.stopped
	}
}

// release starts the relay, if nobody else holds it.
func (n *node) release() {
	n.mu.Lock()
	n.held--
	n.mu.Unlock()
	n.start()
}

// stop ends the relay as systemd does.
func (n *node) stop(l *life) {
	defer close(l.stopped)
	n.site.world.ledger.ended(n.site) // it may have to cut off a message
	l.bury(30 * time.Second)
	// A session that had to be cut off waits for its next hop until the process ends.
	if left := l.host.conns(); len(left) > 0 && !l.cutsOff && !l.isDead() {
		n.site.world.violate("leak", "%s has stopped, and has connections to %v", n.name, left)
	}
	l.die()
	l.host.kill()
	n.mu.Lock()
	if n.life == l {
		n.life = nil
	}
	n.mu.Unlock()
	n.site.world.tracef("%s: has stopped", n.name)
}

func (l *life) close(within time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	if l.pool != nil {
		_ = l.pool.Close(ctx)
	}
	if l.store != nil {
		_ = l.store.Close(ctx)
	}
	if l.km != nil {
		l.km.CloseIdle()
	}
}

// reload makes the relay read its configuration again, once it has started. If there is
// none, the next one reads it anyway.
func (n *node) reload() {
	n.mu.Lock()
	l := n.life
	n.mu.Unlock()
	if l == nil {
		return
	}
	<-l.begun
	n.mu.Lock()
	ready := n.life == l && l.up
	n.mu.Unlock()
	if !ready {
		return
	}
	if err := l.relay.Reload(n.config()); err != nil {
		n.site.world.violate("reload", "%s: a configuration that has hardly changed can't be reloaded: %v", n.name, err)
	}
}

// config returns the node's configuration.
func (n *node) config() *config.Config { return n.site.config(n.ip, n.name) }

// disarm lets the node live on.
func (n *node) disarm() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.armed = 0
}

// finish stops the node for good.
func (n *node) finish() {
	n.hold()
	n.ends.Wait()
}
