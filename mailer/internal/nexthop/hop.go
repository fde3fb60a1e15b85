package nexthop

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/qkdmail/qkdmail/mailer/internal/smtpwire"
)

// A TLSMode says whether a connection is encrypted with STARTTLS.
type TLSMode int

// The modes.
const (
	TLSOff           TLSMode = iota
	TLSOpportunistic         // if that works; the certificate is not verified
	TLSRequired              // always; the certificate is verified
)

// Options say where a next hop is and how to reach it. Zero means the default.
type Options struct {
	Network, Address string // "tcp" (also "") and HOST:PORT, or "unix" and a path
	LMTP             bool
	Hostname         string // the relay's, in EHLO

	TLS       TLSMode
	TLSConfig *tls.Config // nil: TLS 1.2 or later and the system's CAs

	User, Password string                 // AUTH PLAIN, over TLS only; "": none
	Token          func() (string, error) // an OAuth 2.0 token for each connection, instead of Password; may be nil

	MaxConns    int           // at one time; 500
	MaxIdle     int           // of those kept open while unused; 20
	IdleFor     time.Duration // how long; 1 minute
	MaxMessages int           // through one connection; 10 at an Exim, else 1000

	Connect  time.Duration // 30 s
	Command  time.Duration // for each reply before the final dot; 5 min
	AfterDot time.Duration // for the reply after it; 9 min, since Postfix waits for ten
	Upload   time.Duration // for each write of DATA; 3 min

	// Dial makes a connection; nil: the operating system does.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	Logger *slog.Logger // may be nil
}

func (o Options) withDefaults() Options {
	duration := func(d *time.Duration, otherwise time.Duration) {
		if *d <= 0 {
			*d = otherwise
		}
	}
	number := func(n *int, otherwise int) {
		if *n <= 0 {
			*n = otherwise
		}
	}
	duration(&o.IdleFor, time.Minute)
	duration(&o.Connect, 30*time.Second)
	duration(&o.Command, 5*time.Minute)
	duration(&o.AfterDot, 9*time.Minute)
	duration(&o.Upload, 3*time.Minute)
	number(&o.MaxConns, 500)
	number(&o.MaxIdle, 20)
	if o.Network == "" {
		o.Network = "tcp"
	}
	if o.Hostname == "" {
		o.Hostname = "localhost"
	}
	if o.Dial == nil {
		o.Dial = new(net.Dialer).DialContext
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

// A Hop is a next hop. Its methods may be called from several goroutines at the
// same time.
type Hop struct {
	opts  Options
	slots chan struct{} // one for each connection that is in use

	mu     sync.Mutex
	idle   []*conn // the one used last is last
	offers smtpwire.Offers
	seen   bool // offers is known
	closed bool
	noTLS  time.Time // until then opportunistic TLS is not tried
}

var _ smtp.Backend = (*Hop)(nil)

// New returns a Hop. It connects when there is something to deliver, or with
// Probe.
func New(o Options) *Hop {
	o = o.withDefaults()
	return &Hop{opts: o, slots: make(chan struct{}, o.MaxConns)}
}

// NewSession returns a session whose transactions are delivered.
func (h *Hop) NewSession(*smtp.Conn) (smtp.Session, error) { return &Session{hop: h}, nil }

// Probe connects, to learn what the next hop offers.
func (h *Hop) Probe(ctx context.Context) (err error) {
	defer func() { // no next hop may end the relay
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	c, err := h.dial(ctx)
	if err != nil {
		return err
	}
	h.put(c)
	return nil
}

// acquire waits until one more connection may be used; release gives it back.
func (h *Hop) acquire() error {
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
		return errBusy
	}
}

func (h *Hop) release() { <-h.slots }

// get returns a kept connection or a new one. It does not use one on which the next hop
// has said something.
func (h *Hop) get(fresh bool) (*conn, error) {
	for !fresh {
		h.mu.Lock()
		if len(h.idle) == 0 {
			h.mu.Unlock()
			break
		}
		c := h.idle[len(h.idle)-1]
		h.idle = h.idle[:len(h.idle)-1]
		h.mu.Unlock()
		c.idle.Stop()
		if !c.spoken() {
			return c, nil
		}
		c.quit()
	}
	return h.dial(context.Background())
}

// put keeps a connection that is between two transactions for some time, unless it has
// had its share of messages.
func (h *Hop) put(c *conn) {
	c.kept = true
	h.mu.Lock()
	keep := !h.closed && len(h.idle) < h.opts.MaxIdle && c.messages < c.most && !c.spoken()
	if keep {
		c.idle = time.AfterFunc(h.opts.IdleFor, func() { h.expire(c) })
		h.idle = append(h.idle, c)
	}
	h.mu.Unlock()
	if !keep {
		c.quit()
	}
}

// expire closes a connection that was kept too long.
func (h *Hop) expire(c *conn) {
	h.mu.Lock()
	i := slices.Index(h.idle, c)
	if i >= 0 {
		h.idle = slices.Delete(h.idle, i, i+1)
	}
	h.mu.Unlock()
	if i >= 0 {
		c.quit()
	}
}

// Close closes the connections that are kept. Those in use are closed after their use.
func (h *Hop) Close() error {
	h.mu.Lock()
	idle := h.idle
	h.idle, h.closed = nil, true
	h.mu.Unlock()
	for _, c := range idle {
		c.idle.Stop()
		c.quit()
	}
	return nil
}

// learn notes what the next hop offers.
func (h *Hop) learn(o smtpwire.Offers) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.seen || o != h.offers {
		h.opts.Logger.Info("next hop seen", "next_hop", h.opts.Address, "8bitmime", o.EightBit, "smtputf8", o.UTF8, "dsn", o.DSN, "size", o.Size)
	}
	h.offers, h.seen = o, true
}

// Offers returns what the next hop offered last. Until it is reached, that is everything:
// mail that needs an extension is then answered with 451; without the offer, its sender
// would give up.
func (h *Hop) Offers() smtpwire.Offers {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.seen {
		return smtpwire.Offers{EightBit: true, UTF8: true, DSN: true}
	}
	return h.offers
}

// Seen reports whether the next hop was ever reached.
func (h *Hop) Seen() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.seen
}
