package smtpkit

import (
	"io"
	"net"
	"sync"

	"github.com/emersion/go-smtp"
)

// PassThrough does the least that a relay on go-smtp can do: its server takes
// messages, and its client passes them on over connections that are kept.
func PassThrough(nextHop string) *smtp.Server {
	pool := &clients{address: nextHop}
	server := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return &passing{pool: pool}, nil }))
	server.Domain = "pass.example"
	return server
}

// clients are the connections that are kept.
type clients struct {
	address string
	mu      sync.Mutex
	idle    []*smtp.Client
}

func (p *clients) get() (*smtp.Client, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.idle); n > 0 {
		c := p.idle[n-1]
		p.idle = p.idle[:n-1]
		return c, nil
	}
	conn, err := net.Dial("tcp", p.address)
	if err != nil {
		return nil, err
	}
	return smtp.NewClient(conn), nil
}

func (p *clients) put(c *smtp.Client) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.idle = append(p.idle, c)
}

// A passing is a session.
type passing struct {
	pool *clients
	next *smtp.Client
}

// Mail begins a transaction at the next hop.
func (s *passing) Mail(from string, _ *smtp.MailOptions) (err error) {
	if s.next, err = s.pool.get(); err != nil {
		return err
	}
	return s.next.Mail(from, nil)
}

// Rcpt passes a recipient on.
func (s *passing) Rcpt(to string, _ *smtp.RcptOptions) error { return s.next.Rcpt(to, nil) }

// Data passes a message on.
func (s *passing) Data(r io.Reader) error {
	w, err := s.next.Data()
	if err != nil {
		return err
	}
	if _, err := io.Copy(w, r); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	s.pool.put(s.next)
	s.next = nil
	return nil
}

// Reset gives up a connection in the middle of a transaction.
func (s *passing) Reset() {
	if s.next != nil {
		_ = s.next.Close()
		s.next = nil
	}
}

// Logout ends the session.
func (s *passing) Logout() error {
	s.Reset()
	return nil
}
