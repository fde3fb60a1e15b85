package smtpserver

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/qkdmail/qkdmail/mailer/internal/contract"
	"github.com/qkdmail/qkdmail/mailer/internal/smtpwire"
)

// Settings say who may connect and how a connection behaves. A change applies to
// connections that come after it.
type Settings struct {
	Networks    []netip.Prefix // of clients that may connect; at a unix socket its permissions decide
	Connections int            // at one time; 0: any number
	PerClient   int            // of those from one address; 0: any number
	Recipients  int            // of a transaction; 0: any number
	XForward    []netip.Prefix // clients that may send XFORWARD

	TLS        *tls.Config // nil: STARTTLS is not offered
	RequireTLS bool        // no mail and no AUTH without TLS
	Offers     func() smtpwire.Offers

	Idle     time.Duration // between two commands; 0: any
	DataIdle time.Duration // between two pieces of DATA; 0: any
	MinRate  int64         // least bytes of DATA per second, after DataIdle of waiting
	Write    time.Duration // for a client to take a reply; 0: any
}

// A Server serves the clients of one listener. Its fields are set before Serve
// is called and not changed afterwards.
type Server struct {
	Hostname string
	LMTP     bool
	// NewSession begins the session of a client that has introduced itself. An
	// error is its answer.
	NewSession func(contract.Client) (contract.Session, error)
	Logger     *slog.Logger

	mu       sync.Mutex
	settings Settings
	conns    map[*Conn]netip.Addr
	clients  map[netip.Addr]int
	stopped  bool
	work     sync.WaitGroup
}

// Set sets the settings. It must be called before Serve, and may be called again.
func (s *Server) Set(r Settings) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settings = r
}

// Serve serves clients until the listener is closed, or returns why it fails.
func (s *Server) Serve(l net.Listener) error {
	for {
		conn, err := l.Accept()
		switch {
		case err == nil:
			s.admit(conn, l.Addr().Network() == "unix")
		case errors.Is(err, net.ErrClosed):
			return nil
		case isTemporary(err):
			s.Logger.Warn("a client could not be accepted", "cause", err)
			time.Sleep(100 * time.Millisecond) // files may be closed meanwhile
		default:
			return err
		}
	}
}

// isTemporary reports whether an error is not about the listener, such as too many open
// files.
func isTemporary(err error) bool {
	var ne interface{ Temporary() bool }
	return errors.As(err, &ne) && ne.Temporary()
}

// admit serves a client, or turns it away. A relay that takes mail from anyone sends
// anyone's mail in its owner's name.
func (s *Server) admit(conn net.Conn, unix bool) {
	client := Address(conn.RemoteAddr())
	s.mu.Lock()
	defer s.mu.Unlock()
	reply := ""
	switch r := &s.settings; {
	case s.stopped:
		reply = "421 4.3.2 The relay is stopping, try again later"
	case !unix && !Contains(r.Networks, client):
		reply = "554 5.7.1 This relay does not take mail from here"
	case r.Connections > 0 && len(s.conns) >= r.Connections:
		reply = "421 4.3.2 Too many connections, try again later"
	case !unix && r.PerClient > 0 && s.clients[client] >= r.PerClient:
		reply = "421 4.7.0 Too many connections from you, try again later"
	}
	if reply != "" {
		go turnAway(conn, reply)
		return
	}
	if s.conns == nil {
		s.conns, s.clients = map[*Conn]netip.Addr{}, map[netip.Addr]int{}
	}
	c := newConn(s, conn, s.settings)
	s.conns[c] = client
	s.clients[client]++
	s.work.Go(c.serve)
}

// turnAway sends a client why it is not served.
func turnAway(conn net.Conn, reply string) {
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	_, _ = conn.Write([]byte(reply + "\r\n"))
	_ = conn.Close()
}

// leave forgets a connection that has ended.
func (s *Server) leave(c *Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	client := s.conns[c]
	delete(s.conns, c)
	if s.clients[client]--; s.clients[client] <= 0 {
		delete(s.clients, client)
	}
}

// Shutdown ends connections with 421 as soon as they are between two commands: messages
// under way are finished first. Connections that are left when ctx ends are closed, and
// Shutdown does not wait for them. The caller closes the listener first.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.stopped = true
	for c := range s.conns {
		c.stop()
	}
	s.mu.Unlock()
	done := make(chan struct{})
	go func() { s.work.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	for c := range s.conns {
		_ = c.Close()
	}
	s.mu.Unlock()
	return ctx.Err()
}

// Address returns the IP address of a client, the zero Addr for one at a unix socket.
func Address(a net.Addr) netip.Addr {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	return tcp.AddrPort().Addr().Unmap()
}

// Contains reports whether one of the networks has this address.
func Contains(networks []netip.Prefix, a netip.Addr) bool {
	for _, n := range networks {
		if n.Contains(a) {
			return true
		}
	}
	return false
}
