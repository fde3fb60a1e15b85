package e2e

import (
	"io"
	"log"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/qkdmail/qkdmail/cmd/internal/relaytest"
)

// A received is a message that arrived at a sink.
type received struct {
	from string
	to   []string
	data []byte
	at   time.Time
}

// A sink is where the mail of a site's users arrives. It takes all mail but for
// recipients named "refused@…", and keeps the octets.
type sink struct {
	port int

	mu   sync.Mutex
	mail []received
}

func newSink(t *testing.T) *sink {
	t.Helper()
	s := &sink{}
	server := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return &sinkSession{sink: s}, nil }))
	server.Domain = "sink.invalid"
	server.MaxLineLength = 0
	server.EnableSMTPUTF8 = true
	server.ErrorLog = log.New(io.Discard, "", 0)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.port = l.Addr().(*net.TCPAddr).Port
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	return s
}

type sinkSession struct {
	sink *sink
	from string
	to   []string
}

func (s *sinkSession) Mail(from string, _ *smtp.MailOptions) error {
	s.from, s.to = from, nil
	return nil
}

func (s *sinkSession) Rcpt(to string, _ *smtp.RcptOptions) error {
	if strings.HasPrefix(to, "refused@") {
		return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "No such mailbox"}
	}
	s.to = append(s.to, to)
	return nil
}

func (s *sinkSession) Data(r io.Reader) error {
	data, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	s.sink.mu.Lock()
	defer s.sink.mu.Unlock()
	s.sink.mail = append(s.sink.mail, received{s.from, s.to, data, time.Now()})
	return nil
}

func (s *sinkSession) Reset()        { s.from, s.to = "", nil }
func (s *sinkSession) Logout() error { return nil }

// all returns what has arrived.
func (s *sink) all() []received {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]received(nil), s.mail...)
}

// to returns what has arrived for a recipient.
func (s *sink) to(recipient string) []received {
	var found []received
	for _, m := range s.all() {
		for _, to := range m.to {
			if to == recipient {
				found = append(found, m)
			}
		}
	}
	return found
}

// one waits for the message to a recipient.
func (s *sink) one(t *testing.T, recipient string) received {
	t.Helper()
	await(t, time.Minute, "mail for "+recipient, func() bool { return len(s.to(recipient)) > 0 })
	return s.to(recipient)[0]
}

// await waits until something is so.
func await(t *testing.T, atMost time.Duration, what string, so func() bool) {
	t.Helper()
	relaytest.Await(t, atMost, what, so)
}
