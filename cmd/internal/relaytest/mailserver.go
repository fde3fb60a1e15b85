package relaytest

import (
	"io"
	"log"
	"net"
	"testing"

	"github.com/emersion/go-smtp"
)

// A MailServer takes messages over SMTP.
type MailServer struct {
	// Take gets each message.
	Take func(from string, to []string, message io.Reader) error
	// Rcpt may refuse a recipient; nil: all are accepted.
	Rcpt func(to string) error
}

// Start serves until the test ends and returns the address.
func (m MailServer) Start(t testing.TB) string {
	t.Helper()
	server := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return &mailSession{MailServer: m}, nil }))
	server.Domain = "server.invalid"
	server.MaxLineLength = 0
	server.EnableSMTPUTF8 = true
	server.ErrorLog = log.New(io.Discard, "", 0)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	return l.Addr().String()
}

type mailSession struct {
	MailServer
	from string
	to   []string
}

func (s *mailSession) Mail(from string, _ *smtp.MailOptions) error {
	s.from, s.to = from, nil
	return nil
}

func (s *mailSession) Rcpt(to string, _ *smtp.RcptOptions) error {
	if s.MailServer.Rcpt != nil {
		if err := s.MailServer.Rcpt(to); err != nil {
			return err
		}
	}
	s.to = append(s.to, to)
	return nil
}

func (s *mailSession) Data(r io.Reader) error { return s.Take(s.from, s.to, r) }
func (s *mailSession) Reset()                 { s.from, s.to = "", nil }
func (s *mailSession) Logout() error          { return nil }
