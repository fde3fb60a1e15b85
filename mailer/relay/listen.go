package relay

import (
	"context"
	"fmt"
	"math"
	"net"
	"os"

	"github.com/qkdmail/qkdmail/mailer"
	"github.com/qkdmail/qkdmail/mailer/internal/smtpserver"
	"github.com/qkdmail/qkdmail/mailer/internal/smtpwire"
	"github.com/qkdmail/qkdmail/mailer/relay/config"
)

// Listen opens all listeners. Their addresses are in Addrs then.
func (r *Relay) Listen(ctx context.Context) error {
	for _, s := range r.sites {
		l, err := r.listen(ctx, s)
		if err != nil {
			r.closeListeners()
			return fmt.Errorf("listener %s: %w", s.config.Name, err)
		}
		s.listener = l
	}
	return nil
}

// listen opens one listener. A socket file that was left behind by a process
// that was killed is removed; one that something listens at is not.
func (r *Relay) listen(ctx context.Context, s *site) (net.Listener, error) {
	network, address, err := s.config.Endpoint()
	if err != nil {
		return nil, err
	}
	l, err := new(net.ListenConfig).Listen(ctx, network, address)
	if network != "unix" {
		return l, err
	}
	if err == nil {
		return forGroup(l, address)
	}
	if c, derr := new(net.Dialer).DialContext(ctx, "unix", address); derr == nil {
		_ = c.Close()
		return nil, err
	}
	if info, serr := os.Lstat(address); serr != nil || info.Mode()&os.ModeSocket == 0 {
		return nil, err
	}
	if rerr := os.Remove(address); rerr != nil {
		return nil, err
	}
	if l, err = new(net.ListenConfig).Listen(ctx, network, address); err != nil {
		return nil, err
	}
	return forGroup(l, address)
}

// forGroup lets the group of a socket file connect, whatever the umask of a
// service is: it is how a mail system with another account comes in.
func forGroup(l net.Listener, path string) (net.Listener, error) {
	if err := os.Chmod(path, 0o660); err != nil {
		_ = l.Close()
		return nil, err
	}
	return l, nil
}

func (r *Relay) closeListeners() {
	for _, s := range r.sites {
		if s.listener != nil {
			_ = s.listener.Close()
		}
	}
}

// rules say who may connect to a listener, and how its connections behave.
func (r *Relay) rules(cfg *config.Config, l config.Listener, s *site) (smtpserver.Rules, error) {
	t := cfg.Timeouts
	o := smtpserver.Rules{
		Networks: l.Networks, XForward: l.XForward,
		Connections: cfg.Limits.Connections, PerClient: cfg.Limits.ConnectionsPerClient, Recipients: cfg.Limits.Recipients,
		RequireTLS: l.TLS == config.TLSRequired,
		Offers:     func() smtpwire.Offers { return r.offers(s) },
		Idle:       t.Idle, DataIdle: t.DataIdle, MinRate: t.MinRate, Write: t.Command,
	}
	var err error
	if o.TLS, err = l.TLSConfig(); err != nil {
		return o, fmt.Errorf("%w: listener %s: %w", mailer.ErrConfig, l.Name, err)
	}
	return o, nil
}

// An encrypted message is larger than the original: base64 with its line ends,
// a header and a note.
const (
	growth   = 1.37
	overhead = 16 << 10
)

// offers says what can be kept now, by what the next hop was seen to offer.
func (r *Relay) offers(s *site) smtpwire.Offers {
	o := s.hop.Load().Offers()
	switch {
	case s.config.Direction == mailer.DirectionEncrypt:
		o.EightBit = true // it is inside
		if o.Size > overhead {
			o.Size = int64(float64(o.Size-overhead) / growth)
		}
	case o.Size > math.MaxInt64/2:
		o.Size = 0 // as good as no limit
	case o.Size > 0:
		// What arrives encrypted is smaller inside. What is too large for the
		// next hop all the same, it will say.
		o.Size = int64(float64(o.Size)*growth) + overhead
	}
	if limit := r.limits().MessageSize; limit > 0 && (o.Size == 0 || o.Size > limit) {
		o.Size = limit
	}
	return o
}

func (r *Relay) limits() config.Limits {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.cfg.Limits
}
