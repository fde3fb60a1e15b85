package relay

import (
	"context"
	"fmt"
	"math"
	"net"
	"os"
	"time"

	"github.com/qkdmail/qkdmail/mailer"
	"github.com/qkdmail/qkdmail/mailer/internal/smtpserver"
	"github.com/qkdmail/qkdmail/mailer/internal/smtpwire"
	"github.com/qkdmail/qkdmail/mailer/relay/config"
)

// A Machine is what a relay runs on: where it listens and connects, and what its clock
// says. Names of networks and addresses are those of package net; errors may be temporary
// as there.
type Machine interface {
	Listen(ctx context.Context, network, address string) (net.Listener, error)
	DialContext(ctx context.Context, network, address string) (net.Conn, error)
	Now() time.Time
}

// here is the machine that the process runs on.
type here struct {
	net.ListenConfig
	net.Dialer
}

// Now returns what the system's clock says.
func (here) Now() time.Time { return time.Now() }

// Listen opens all listeners. After that, Addrs has their addresses.
func (r *Relay) Listen(ctx context.Context) error {
	for _, l := range r.listeners {
		socket, err := l.listen(ctx, r.machine)
		if err != nil {
			r.closeListeners()
			return fmt.Errorf("listener %s: %w", l.config.Name, err)
		}
		l.socket = socket
	}
	return nil
}

// listen opens a listener. A socket file that a killed process has left is removed; one
// at which something listens is not.
func (l *listener) listen(ctx context.Context, m Machine) (net.Listener, error) {
	network, address, err := l.config.Endpoint()
	if err != nil {
		return nil, err
	}
	socket, err := m.Listen(ctx, network, address)
	if network != "unix" {
		return socket, err
	}
	if err == nil {
		return forGroup(socket, address)
	}
	if c, derr := m.DialContext(ctx, "unix", address); derr == nil {
		_ = c.Close()
		return nil, err
	}
	if info, serr := os.Lstat(address); serr != nil || info.Mode()&os.ModeSocket == 0 {
		return nil, err
	}
	if rerr := os.Remove(address); rerr != nil {
		return nil, err
	}
	if socket, err = m.Listen(ctx, network, address); err != nil {
		return nil, err
	}
	return forGroup(socket, address)
}

// forGroup lets the group of a socket file connect, whatever the umask is: a mail system
// has an account of its own.
func forGroup(socket net.Listener, path string) (net.Listener, error) {
	if err := os.Chmod(path, 0o660); err != nil {
		_ = socket.Close()
		return nil, err
	}
	return socket, nil
}

func (r *Relay) closeListeners() {
	for _, l := range r.listeners {
		if l.socket != nil {
			_ = l.socket.Close()
		}
	}
}

// settings say who may connect to a listener, and how its connections behave.
func (r *Relay) settings(cfg *config.Config, c config.Listener, l *listener) (smtpserver.Settings, error) {
	t := cfg.Timeouts
	o := smtpserver.Settings{
		Networks: c.Networks, XForward: c.XForward,
		Connections: cfg.Limits.Connections, PerClient: cfg.Limits.ConnectionsPerClient, Recipients: cfg.Limits.Recipients,
		RequireTLS: c.TLS == config.TLSRequired,
		Offers:     func() smtpwire.Offers { return r.offers(l) },
		Idle:       t.Idle, DataIdle: t.DataIdle, MinRate: t.MinRate, Write: t.Command,
	}
	var err error
	if o.TLS, err = c.TLSConfig(); err != nil {
		return o, fmt.Errorf("%w: listener %s: %w", mailer.ErrConfig, c.Name, err)
	}
	return o, nil
}

// An encrypted message is larger than the original: base64 with its line ends, a header
// and a note of 16 KiB, and within the base64 a recipient list of 64 KiB and what X-Wing
// adds.
const (
	growth   = 1.37
	overhead = 16<<10 + 92<<10
)

// offers returns what a listener can offer now, given what the next hop offered last.
func (r *Relay) offers(l *listener) smtpwire.Offers {
	o := l.hop.Load().Offers()
	switch {
	case l.config.Direction == mailer.DirectionEncrypt:
		o.EightBit = true // 8-bit content is inside
		if o.Size > overhead {
			o.Size = int64(float64(o.Size-overhead) / growth)
		}
	case o.Size > math.MaxInt64/2:
		o.Size = 0 // as good as no limit
	case o.Size > 0:
		// What arrives encrypted is smaller inside. The next hop refuses what is
		// still too large for it.
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
