package mailer

import (
	"context"
	"crypto/tls"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/emersion/go-smtp"
)

// HopOptions say where a next hop is and how it is spoken to.
type HopOptions struct {
	Network, Address string // "tcp" and HOST:PORT, or "unix" and a path
	LMTP             bool
	Hostname         string // what we call ourselves

	TLS       TLSMode // "": TLSOff
	TLSConfig *tls.Config

	User, Password string // AUTH PLAIN, over TLS only; "": none

	MaxConns int           // at one time; 0: 500
	MaxIdle  int           // of them kept open; 0: 20
	IdleFor  time.Duration // how long; 0: 1 minute

	Connect  time.Duration // 0: 30 s
	Command  time.Duration // for each answer before the final dot; 0: 5 min
	AfterDot time.Duration // for the answer after it; 0: 9 min: Postfix waits for ten
	Upload   time.Duration // for each write of DATA; 0: 3 min

	Logger *slog.Logger // may be nil
}

func (o HopOptions) withDefaults() HopOptions {
	duration := func(d *time.Duration, fallback time.Duration) {
		if *d <= 0 {
			*d = fallback
		}
	}
	duration(&o.IdleFor, time.Minute)
	duration(&o.Connect, 30*time.Second)
	duration(&o.Command, 5*time.Minute)
	duration(&o.AfterDot, 9*time.Minute)
	duration(&o.Upload, 3*time.Minute)
	if o.MaxConns <= 0 {
		o.MaxConns = 500
	}
	if o.MaxIdle <= 0 {
		o.MaxIdle = 20
	}
	if o.TLS == "" {
		o.TLS = TLSOff
	}
	if o.Hostname == "" {
		o.Hostname = "localhost"
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

// A NextHop delivers to another server, over SMTP or LMTP: it is a backend
// whose sessions are transactions there. Connections are kept and used again.
type NextHop struct {
	opts  HopOptions
	slots chan struct{} // one for each connection that is in use

	mu     sync.Mutex
	idle   []*hopConn // the one used last is last
	offers offers
	known  bool // offers were seen
	closed bool

	// The last message was cut short behind DATA, which costs a connection:
	// until one goes out whole, DATA is sent no earlier than it has to be.
	cut atomic.Bool
}

// NewNextHop returns a NextHop. It connects when there is something to
// deliver, or with Probe.
func NewNextHop(o HopOptions) *NextHop {
	o = o.withDefaults()
	return &NextHop{opts: o, slots: make(chan struct{}, o.MaxConns)}
}

// A hopConn is a connection to the next hop between two transactions.
type hopConn struct {
	*smtp.Client
	wire  *hopWire  // in TLS where that was begun: DATA goes there
	since time.Time // of its last use
	fresh bool      // nothing was delivered through it yet
}

// Probe connects, to learn what the next hop offers.
func (h *NextHop) Probe(ctx context.Context) error {
	c, err := h.dial(ctx)
	if err != nil {
		return err
	}
	h.put(c)
	return nil
}

// acquire waits until another connection may be used. release gives it back.
func (h *NextHop) acquire() error {
	select {
	case h.slots <- struct{}{}:
		return nil
	default:
	}
	timer := time.NewTimer(h.opts.Connect)
	defer timer.Stop()
	select {
	case h.slots <- struct{}{}:
		return nil
	case <-timer.C:
		return refuse(451, smtp.EnhancedCode{4, 3, 2}, "next hop busy", "Too many connections to the next hop, try again later")
	}
}

func (h *NextHop) release() { <-h.slots }

// get returns a kept connection, or a new one.
func (h *NextHop) get(ctx context.Context, fresh bool) (*hopConn, error) {
	for !fresh {
		h.mu.Lock()
		if len(h.idle) == 0 {
			h.mu.Unlock()
			break
		}
		c := h.idle[len(h.idle)-1]
		h.idle = h.idle[:len(h.idle)-1]
		h.mu.Unlock()
		if time.Since(c.since) < h.opts.IdleFor && !c.wire.unasked() {
			return c, nil
		}
		_ = c.Close()
	}
	return h.dial(ctx)
}

// put keeps a connection that is between two transactions.
// Those that have waited too long are closed.
func (h *NextHop) put(c *hopConn) {
	c.since, c.fresh = time.Now(), false
	h.mu.Lock()
	old := 0
	for old < len(h.idle) && time.Since(h.idle[old].since) >= h.opts.IdleFor {
		old++
	}
	surplus := slices.Clone(h.idle[:old])
	h.idle = slices.Delete(h.idle, 0, old)
	if !h.closed && len(h.idle) < h.opts.MaxIdle {
		h.idle = append(h.idle, c)
	} else {
		surplus = append(surplus, c)
	}
	h.mu.Unlock()
	for _, c := range surplus {
		_ = c.Close()
	}
}

// Close closes the connections that are kept; those in use are not kept any
// more.
func (h *NextHop) Close() error {
	h.mu.Lock()
	idle := h.idle
	h.idle, h.closed = nil, true
	h.mu.Unlock()
	for _, c := range idle {
		_ = c.Quit()
		_ = c.Close()
	}
	return nil
}

// learn notes what the next hop offers.
func (h *NextHop) learn(c *hopConn) {
	has := func(name string) bool { ok, _ := c.Extension(name); return ok }
	o := offers{EightBit: has("8BITMIME"), UTF8: has("SMTPUTF8"), DSN: has("DSN")}
	if _, size := c.Extension("SIZE"); size != "" {
		if n, err := strconv.ParseInt(strings.TrimSpace(size), 10, 64); err == nil {
			o.Size = max(n, 0)
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.known || o != h.offers {
		h.opts.Logger.Info("next hop seen", "next_hop", h.opts.Address, "8bitmime", o.EightBit, "smtputf8", o.UTF8, "dsn", o.DSN, "size", o.Size)
	}
	h.offers, h.known = o, true
}

// seen returns what the next hop was last seen to offer. Before it was seen it
// is taken to offer all: mail that needs an extension is answered 451 until it
// can be reached, where without the offer its sender would give up.
func (h *NextHop) seen() offers {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.known {
		return offers{EightBit: true, UTF8: true, DSN: true}
	}
	return h.offers
}

// wasSeen reports whether the next hop was reached since the start.
func (h *NextHop) wasSeen() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.known
}
