// Package relay puts a mail relay together: listeners for SMTP and LMTP, the
// encrypting and decrypting steps of package mailer, and next hops.
//
//	client ──▶ listener ──▶ mailer.Encrypt or mailer.Decrypt ──▶ next hop
//
// The relay keeps no mail. What comes in as DATA goes out as DATA, and 250 is
// answered only after the next hop has answered 250.
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
	log   *slog.Logger
	keys  Keys
	sites []*site

	reloaded chan struct{}
	observer relayObserver
	memory   mailer.Memory

	mu   sync.Mutex
	hops map[string]*nexthop.Hop
	cfg  *config.Config
}

// A site is a listener and what its mail goes through.
type site struct {
	config   config.Listener // as at the start; Reload changes the others' part of it
	server   *smtpserver.Server
	listener net.Listener                     // nil before Listen
	step     atomic.Pointer[contract.Backend] // replaced by Reload
	hop      atomic.Pointer[nexthop.Hop]
}

// newSession begins a session with the configuration of now; a session that has
// begun keeps its own.
func (s *site) newSession(c contract.Client) (contract.Session, error) {
	return (*s.step.Load()).Begin(c)
}

// Keys are where a relay's keys come from, and what keeps account of them.
type Keys struct {
	Source     cipher.KeySource  // to encrypt with; must be set if a listener encrypts
	Finder     cipher.KeyFinder  // to decrypt with; must be set if a listener decrypts, as Binder and Deliveries
	Binder     cipher.KeyBinder  // sees that a key opens one message only
	Deliveries mailer.Deliveries // see that a message is delivered once to each recipient
	Claims     mailer.Claims     // know which keys were encrypted with here; nil: mail that comes encrypted is encrypted again
}

// WithoutStore are the keys of a key manager whose keys are bound to no message, and
// deliveries that are not recorded: a message that is sent again is delivered again.
func WithoutStore(km kmclient.KeyManager) Keys {
	return Keys{Source: km, Finder: km, Binder: cipher.Unbound, Deliveries: mailer.Unrecorded}
}

// New returns a relay that listens when Listen is called. It does not wait for a
// key manager nor for a next hop. log may be nil.
func New(cfg *config.Config, keys Keys, log *slog.Logger) (*Relay, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	r := &Relay{log: log, keys: keys, reloaded: make(chan struct{}, 1)}
	for _, l := range cfg.Listeners {
		s := &site{config: l}
		s.server = &smtpserver.Server{
			Hostname: cfg.Hostname, LMTP: l.Protocol == config.LMTP, NewSession: s.newSession, Logger: log.With("listener", l.Name),
		}
		r.sites = append(r.sites, s)
	}
	if err := r.apply(cfg); err != nil {
		return nil, err
	}
	return r, nil
}

// Observe has o told of each message from now on.
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

// apply builds all that is behind the listeners and puts it in place, or
// changes nothing.
func (r *Relay) apply(cfg *config.Config) error {
	policy, err := cfg.Policy()
	if err != nil {
		return err
	}
	hops := map[string]*nexthop.Hop{}
	for _, n := range cfg.NextHops {
		hop, err := newHop(cfg, n, r.log)
		if err != nil {
			return err
		}
		hops[n.Name] = hop
	}
	steps := make([]contract.Backend, len(r.sites))
	rules := make([]smtpserver.Rules, len(r.sites))
	for i, s := range r.sites {
		l := cfg.Listeners[i]
		hop, ok := hops[l.NextHop]
		if !ok {
			return fmt.Errorf("%w: listener %s: no next hop %q", mailer.ErrConfig, l.Name, l.NextHop)
		}
		if steps[i], err = r.step(cfg, l, s, policy, hop); err != nil {
			return err
		}
		if rules[i], err = r.rules(cfg, l, s); err != nil {
			return err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.memory.SetLimit(cfg.Limits.MemoryBytes())
	for i, s := range r.sites {
		s.step.Store(&steps[i])
		s.hop.Store(hops[cfg.Listeners[i].NextHop])
		s.server.SetRules(rules[i])
	}
	for _, h := range r.hops {
		_ = h.Close()
	}
	r.hops, r.cfg = hops, cfg
	return nil
}

// Reload puts a new configuration in place for clients that connect from now
// on. Number, names, addresses, protocols and directions of the listeners can't
// change; with an error the old configuration stays.
func (r *Relay) Reload(cfg *config.Config) error {
	if len(cfg.Listeners) != len(r.sites) {
		return fmt.Errorf("%w: a listener was added or removed: restart for that", mailer.ErrConfig)
	}
	for i, l := range cfg.Listeners {
		old := r.sites[i].config
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

// Addrs returns where the listeners listen, in the order of the configuration.
func (r *Relay) Addrs() []net.Addr {
	var addrs []net.Addr
	for _, s := range r.sites {
		addrs = append(addrs, s.listener.Addr())
	}
	return addrs
}

// Serve serves until ctx ends, and then gives the messages under way the time
// that the configuration says. Listen comes before.
func (r *Relay) Serve(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var probe sync.WaitGroup
	probe.Go(func() { r.probe(ctx) })
	failed := make(chan error, len(r.sites))
	for _, s := range r.sites {
		go func() { failed <- s.server.Serve(s.listener) }()
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

// probe asks the next hops what they offer, until they have said it once.
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

// CheckNextHops connects to each next hop. It returns, by their names, why one
// can't be reached, and nil for those that can.
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

// stop ends in steps: no new connections, then 421 to those that are between
// two messages, then the time for those under way, then all the rest.
func (r *Relay) stop() error {
	r.mu.Lock()
	ctx, cancel := context.WithTimeout(context.Background(), r.cfg.Timeouts.Shutdown)
	r.mu.Unlock()
	defer cancel()
	var wg sync.WaitGroup
	errs := make([]error, len(r.sites))
	for i, s := range r.sites {
		wg.Go(func() {
			_ = s.listener.Close()
			errs[i] = s.server.Shutdown(ctx)
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
