package mailer

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/textfile"
	"github.com/qkdmail/qkdmail/mailer/internal/nexthop"
	"github.com/qkdmail/qkdmail/mailer/internal/smtpserver"
)

// A Relay serves all listeners of a configuration.
type Relay struct {
	log   *slog.Logger
	sites []*site

	reloaded chan struct{}
	observer relayObserver
	memory   memory

	mu   sync.Mutex
	hops map[string]*nexthop.Hop
	cfg  *Config
}

// A site is a listener with what is behind it.
type site struct {
	config   ListenerConfig // as at the start; Reload changes the others' part of it
	server   *smtpserver.Server
	listener net.Listener            // nil before Listen
	backend  atomic.Pointer[backend] // replaced by Reload
	hop      atomic.Pointer[nexthop.Hop]
}

// newSession begins a session with the configuration of now; a session that has
// begun keeps its own.
func (s *site) newSession(c *smtpserver.Conn) (smtp.Session, error) {
	return s.backend.Load().begin(c, nil)
}

// NewRelay returns a relay that gets its keys from km, and listens when Listen
// is called. It does not wait for the key manager nor for a next hop.
func NewRelay(cfg *Config, km kmclient.KeyManager, log *slog.Logger) (*Relay, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	r := &Relay{log: log, reloaded: make(chan struct{}, 1)}
	for _, l := range cfg.Listeners {
		s := &site{config: l}
		s.server = &smtpserver.Server{
			Hostname: cfg.Hostname, LMTP: l.Protocol == ProtocolLMTP, NewSession: s.newSession, Logger: log.With("listener", l.Name),
		}
		r.sites = append(r.sites, s)
	}
	if err := r.apply(cfg, km); err != nil {
		return nil, err
	}
	return r, nil
}

// Observe has o told of each message from now on.
func (r *Relay) Observe(o Observer) { r.observer.Store(&o) }

// A relayObserver passes on what the sessions of a relay report.
type relayObserver struct{ atomic.Pointer[Observer] }

// Message tells the observer, if there is one.
func (o *relayObserver) Message(r Report) {
	if to := o.Load(); to != nil {
		(*to).Message(r)
	}
}

// apply builds all that is behind the listeners and puts it in place, or
// changes nothing.
func (r *Relay) apply(cfg *Config, km kmclient.KeyManager) error {
	policy, err := NewPolicy(cfg)
	if err != nil {
		return err
	}
	hops := map[string]*nexthop.Hop{}
	for _, n := range cfg.NextHops {
		hop, err := newConfiguredHop(cfg, n, r.log)
		if err != nil {
			return err
		}
		hops[n.Name] = hop
	}
	backends := make([]backend, len(r.sites))
	rules := make([]smtpserver.Rules, len(r.sites))
	for i, s := range r.sites {
		l := cfg.Listeners[i]
		hop, ok := hops[l.NextHop]
		if !ok {
			return fmt.Errorf("%w: listener %s: no next hop %q", ErrConfig, l.Name, l.NextHop)
		}
		if backends[i], err = r.backend(cfg, l, s, policy, hop, km); err != nil {
			return err
		}
		if rules[i], err = r.rules(cfg, l, s); err != nil {
			return err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.memory.limit.Store(cfg.Limits.MemoryBytes())
	for i, s := range r.sites {
		s.backend.Store(&backends[i])
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
func (r *Relay) Reload(cfg *Config, km kmclient.KeyManager) error {
	if len(cfg.Listeners) != len(r.sites) {
		return fmt.Errorf("%w: a listener was added or removed: restart for that", ErrConfig)
	}
	for i, l := range cfg.Listeners {
		old := r.sites[i].config
		if l.Name != old.Name || l.Address != old.Address || l.Protocol != old.Protocol || l.Direction != old.Direction {
			return fmt.Errorf("%w: listener %q has changed: restart for that", ErrConfig, l.Name)
		}
	}
	if err := r.apply(cfg, km); err != nil {
		return err
	}
	select {
	case r.reloaded <- struct{}{}:
	default:
	}
	return nil
}

// backend is the encrypting or decrypting step of a listener.
func (r *Relay) backend(cfg *Config, l ListenerConfig, s *site, policy *Policy, hop *nexthop.Hop, km kmclient.KeyManager) (backend, error) {
	step := Step{
		Policy: policy, SAE: cfg.KM.SAE, Hostname: cfg.Hostname,
		Limits: cfg.Limits, KeyTimeout: cfg.KM.Timeout,
		MessageID: cfg.Log.MessageID, LogAddress: cfg.Log.Addresses,
		Logger: r.log.With("listener", l.Name), Observer: &r.observer, LMTP: l.Protocol == ProtocolLMTP,
		EightBit: func() bool { return hop.Offers().EightBit },
		MaxSize:  func() int64 { return r.offers(s).Size },
		memory:   &r.memory,
	}
	if l.AuthFile != "" {
		users, err := LoadUsers(l.AuthFile)
		if err != nil {
			return backend{}, err
		}
		step.Users, step.RequireAuth = users, true
	}
	if l.Direction == DirectionDecrypt {
		return newDecrypt(hop, DecryptOptions{Step: step, Keys: km, KeyGrace: cfg.KM.KeyGrace}), nil
	}
	return newEncrypt(hop, EncryptOptions{
		Step: step, Keys: km, Headers: cfg.Headers.Policy, Note: cfg.Headers.Note,
		NextSize: func() int64 { return hop.Offers().Size },
		InClear:  func(peer string) { r.log.Warn("in clear for want of keys", "peer", peer) },
	}), nil
}

// newConfiguredHop returns the next hop of a configuration.
func newConfiguredHop(cfg *Config, n NextHopConfig, log *slog.Logger) (*nexthop.Hop, error) {
	network, address, err := splitAddress(n.Address)
	if err != nil {
		return nil, fmt.Errorf("%w: next hop %s: %w", ErrConfig, n.Name, err)
	}
	o := nexthop.Options{
		Network: network, Address: address, LMTP: n.Protocol == ProtocolLMTP, Hostname: cfg.Hostname,
		TLS: hopTLS(n.TLS), TLSConfig: &tls.Config{MinVersion: tls.VersionTLS12, ServerName: n.TLSName},
		User: n.AuthUser, MaxConns: n.MaxConnections, MaxIdle: n.MaxIdle, MaxMessages: n.MaxMessages, IdleFor: cfg.Timeouts.NextHopIdle,
		Connect: cfg.Timeouts.Connect, Command: cfg.Timeouts.Command, AfterDot: cfg.Timeouts.AfterDot, Upload: cfg.Timeouts.Command,
		Logger: log,
	}
	if n.TLSCA != "" {
		if o.TLSConfig.RootCAs, err = textfile.CAs(n.TLSCA); err != nil {
			return nil, fmt.Errorf("%w: next hop %s: %w", ErrConfig, n.Name, err)
		}
	}
	if n.AuthPasswordFile != "" {
		if o.Password, err = LoadPassword(n.AuthPasswordFile); err != nil {
			return nil, err
		}
	}
	return nexthop.New(o), nil
}

func hopTLS(m TLSMode) nexthop.TLSMode {
	switch m {
	case TLSRequired:
		return nexthop.TLSRequired
	case TLSOpportunistic:
		return nexthop.TLSOpportunistic
	}
	return nexthop.TLSOff
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
			if err := recovered(func() error { return hop.Probe(ctx) }); err != nil && ctx.Err() == nil {
				down = true
				r.log.Warn("next hop can't be reached", "next_hop", name, "cause", printable(err.Error()))
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
			err := recovered(func() error { return hop.Probe(ctx) })
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
