package e2e

import (
	"io"
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
}

// A sink is where the mail of a site's users arrives. It takes all mail, except
// for recipients named "refused@…", and keeps every byte.
type sink struct {
	addr string

	mu   sync.Mutex
	mail []received
}

func newSink(t *testing.T) *sink {
	t.Helper()
	s := &sink{}
	s.addr = relaytest.MailServer{
		Rcpt: func(to string) error {
			if strings.HasPrefix(to, "refused@") {
				return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "No such mailbox"}
			}
			return nil
		},
		Take: func(from string, to []string, message io.Reader) error {
			data, err := io.ReadAll(message)
			if err != nil {
				return err
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			s.mail = append(s.mail, received{from, to, data})
			return nil
		},
	}.Start(t)
	return s
}

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
	relaytest.Await(t, time.Minute, "mail for "+recipient, func() bool { return len(s.to(recipient)) > 0 })
	return s.to(recipient)[0]
}
