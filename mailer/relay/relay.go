// Package relay puts a mail relay together: listeners for SMTP and LMTP, the
// encrypting and decrypting steps of package mailer, and next hops.
//
//	client ──▶ listener ──▶ mailer.Encrypt or mailer.Decrypt ──▶ next hop
//
// The relay stores no mail. What comes in as DATA goes out as DATA, and the relay answers
// 250 only after the next hop has.
package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/mailer"
	"github.com/qkdmail/qkdmail/mailer/internal/contract"
	"github.com/qkdmail/qkdmail/mailer/internal/nexthop"
	"github.com/qkdmail/qkdmail/mailer/internal/readable"
	"github.com/qkdmail/qkdmail/mailer/internal/smtpserver"
	"github.com/qkdmail/qkdmail/mailer/relay/config"
)

// A Relay serves all listeners of a configuration.
type Relay struct {
	log       *slog.Logger
	machine   Machine
	keys      Keys
	listeners []*listener

	reloaded chan struct{}
	observer relayObserver
	memory   mailer.Memory

	mu   sync.Mutex
	hops map[string]*nexthop.Hop
	cfg  *config.Config
}

// A listener takes mail at an address, and has the step and the next hop for it.
type listener struct {
	config config.Listener // as at the start
	server *smtpserver.Server
	socket net.Listener                     // nil before Listen
	step   atomic.Pointer[contract.Backend] // replaced by Reload, like hop
	hop    atomic.Pointer[nexthop.Hop]
}

// newSession begins a session with the current configuration, which the session keeps.
func (l *listener) newSession(c contract.Client) (contract.Session, error) {
	return (*l.step.Load()).Begin(c)
}

// Keys say where a relay's keys come from, and what keeps track of them.
type Keys struct {
	// Source must be set if a listener encrypts. Only a keystore.Store, or a keypool.Pool
	// in front of one, ensures that no key is given out twice. Claims know which keys
	// this relay has encrypted with; nil: a message that comes encrypted is encrypted
	// again.
	Source cipher.KeySource
	Claims mailer.Claims

	// These must be set if a listener decrypts. Binder ensures that a key opens only one
	// message, Deliveries that each recipient gets a message only once.
	Finder     cipher.KeyFinder
	Binder     cipher.KeyBinder
	Deliveries mailer.Deliveries
}

// WithoutStore returns Keys that rely on a key manager alone: a key that it gives out
// twice is used twice, keys are bound to no message, and a message that is sent again is
// delivered again.
func WithoutStore(km kmclient.KeyManager) Keys {
	return Keys{Source: km, Finder: km, Binder: cipher.Unbound, Deliveries: mailer.Unrecorded}
}

// New returns a relay. It waits neither for a key manager nor for a next hop. log may
// be nil.
func New(cfg *config.Config, keys Keys, log *slog.Logger) (*Relay, error) {
	return NewOn(new(here), cfg, keys, log)
}

// NewOn is New on another machine, such as a test's.
func NewOn(machine Machine, cfg *config.Config, keys Keys, log *slog.Logger) (*Relay, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	r := &Relay{log: log, machine: machine, keys: keys, reloaded: make(chan struct{}, 1)}
	for _, c := range cfg.Listeners {
		l := &listener{config: c}
		l.server = &smtpserver.Server{
			Hostname: cfg.Hostname, LMTP: c.Protocol == config.LMTP, NewSession: l.newSession, Logger: log.With("listener", c.Name),
		}
		r.listeners = append(r.listeners, l)
	}
	if err := r.apply(cfg); err != nil {
		return nil, err
	}
	return r, nil
}

// Observe makes reports of all messages go to o from now on.
func (r *Relay) Observe(o mailer.Observer) { r.observer.Store(&o) }

// A relayObserver passes on what the sessions of a relay report.
type relayObserver struct {
	atomic.Pointer[mailer.Observer]
}

// Message passes a report on, if there is an observer.
func (o *relayObserver) Message(r mailer.Report) {
	if to := o.Load(); to != nil {
		(*to).Message(r)
	}
}

// apply makes everything that mail from the listeners goes through, and puts it in place;
// or it changes nothing.
func (r *Relay) apply(cfg *config.Config) error {
	policy, err := cfg.Policy()
	if err != nil {
		return err
	}
	own, err := cfg.HybridKeys()
	if err != nil {
		return err
	}
	hops := map[string]*nexthop.Hop{}
	for _, n := range cfg.NextHops {
		hop, err := r.newHop(cfg, n)
		if err != nil {
			return err
		}
		hops[n.Name] = hop
	}
	steps := make([]contract.Backend, len(r.listeners))
	settings := make([]smtpserver.Settings, len(r.listeners))
	for i, l := range r.listeners {
		c := cfg.Listeners[i]
		hop, ok := hops[c.NextHop]
		if !ok {
			return fmt.Errorf("%w: listener %s: no next hop %q", mailer.ErrConfig, c.Name, c.NextHop)
		}
		if steps[i], err = r.step(cfg, c, l, policy, own, hop); err != nil {
			return err
		}
		if settings[i], err = r.settings(cfg, c, l); err != nil {
			return err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.memory.SetLimit(cfg.Limits.MemoryBytes())
	for i, l := range r.listeners {
		l.step.Store(&steps[i])
		l.hop.Store(hops[cfg.Listeners[i].NextHop])
		l.server.Set(settings[i])
	}
	for _, h := range r.hops {
		_ = h.Close()
	}
	r.hops, r.cfg = hops, cfg
	return nil
}

// Reload puts a new configuration in place for clients that connect from now on, and
// reads the files that it names. The key manager, and the number of listeners, their
// names, addresses, protocols and directions can't change. After an error the old
// configuration stays in place.
func (r *Relay) Reload(cfg *config.Config) error {
	r.mu.Lock()
	sameKM := cfg.KM == r.cfg.KM
	r.mu.Unlock()
	if !sameKM {
		return fmt.Errorf("%w: [km] has changed: restart for that", mailer.ErrConfig)
	}
	if len(cfg.Listeners) != len(r.listeners) {
		return fmt.Errorf("%w: a listener was added or removed: restart for that", mailer.ErrConfig)
	}
	for i, l := range cfg.Listeners {
		old := r.listeners[i].config
		if l.Name != old.Name || l.Address != old.Address || l.Protocol != old.Protocol || l.Direction != old.Direction {
			return fmt.Errorf("%w: listener %q has changed: restart for that", mailer.ErrConfig, l.Name)
		}
	}
	if err := r.apply(cfg); err != nil {
		return err
	}
	select {
	case r.reloaded <- struct{}{}:
	default:
	}
	return nil
}

// Addrs returns the addresses of the listeners, in the order of the configuration.
func (r *Relay) Addrs() []net.Addr {
	var addrs []net.Addr
	for _, l := range r.listeners {
		addrs = append(addrs, l.socket.Addr())
	}
	return addrs
}

// Serve serves until ctx ends, and then gives messages under way the configured time to
// end. Call Listen first.
func (r *Relay) Serve(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var probe sync.WaitGroup
	probe.Go(func() { r.probe(ctx) })
	failed := make(chan error, len(r.listeners))
	for _, l := range r.listeners {
		go func() { failed <- l.server.Serve(l.socket) }()
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	cancel()
	err = errors.Join(err, r.stop())
	probe.Wait()
	return err
}

// probe connects to the next hops to learn what they offer, until it has reached each
// once.
func (r *Relay) probe(ctx context.Context) {
	for {
		down := false
		r.mu.Lock()
		hops := r.hops
		r.mu.Unlock()
		for name, hop := range hops {
			if hop.Seen() {
				continue
			}
			if err := hop.Probe(ctx); err != nil && ctx.Err() == nil {
				down = true
				r.log.Warn("next hop can't be reached", "next_hop", name, "cause", readable.Line(err.Error()))
			}
		}
		var again <-chan time.Time
		if down {
			again = time.After(10 * time.Second)
		}
		select {
		case <-ctx.Done():
			return
		case <-r.reloaded:
		case <-again:
		}
	}
}

// CheckNextHops connects to each next hop. It returns, by name, why a next hop can't be
// reached, nil if it can.
func (r *Relay) CheckNextHops(ctx context.Context) map[string]error {
	r.mu.Lock()
	hops := r.hops
	r.mu.Unlock()
	var mu sync.Mutex
	var wg sync.WaitGroup
	found := map[string]error{}
	for name, hop := range hops {
		wg.Go(func() {
			err := hop.Probe(ctx)
			mu.Lock()
			defer mu.Unlock()
			found[name] = err
		})
	}
	wg.Wait()
	return found
}

// stop ends the relay: no new connections, 421 to those between two messages, time for
// messages under way, then the end of all others.
func (r *Relay) stop() error {
	r.mu.Lock()
	ctx, cancel := context.WithTimeout(context.Background(), r.cfg.Timeouts.Shutdown)
	r.mu.Unlock()
	defer cancel()
	var wg sync.WaitGroup
	errs := make([]error, len(r.listeners))
	for i, l := range r.listeners {
		wg.Go(func() {
			_ = l.socket.Close()
			errs[i] = l.server.Shutdown(ctx)
		})
	}
	wg.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, h := range r.hops {
		_ = h.Close()
	}
	return errors.Join(errs...)
}
