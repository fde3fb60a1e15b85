package relaycmd

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/emersion/go-smtp"
	"github.com/qkdmail/qkdmail/cmd/internal/flags"
	"github.com/qkdmail/qkdmail/cmd/internal/kmtest"
)

// secret is in the messages.
const secret = "the merger is on"

// mailOf returns a message of size bytes.
func mailOf(size int) string {
	head := "From: Alice <alice@a.example>\r\nTo: bob@b.example\r\nSubject: " + secret + "\r\nMessage-ID: <1@a.example>\r\n\r\n"
	line := secret + strings.Repeat(".", 54) + "\r\n"
	body := strings.Repeat(line, size/len(line)+1)
	return head + body[:size-len(head)-2] + "\r\n"
}

// A running relay is "relay --config" in this process, with its pool, store and key
// manager's client.
type running struct {
	t       testing.TB
	address string
	log     *relayLog
	ended   chan struct{}
	err     error // of the relay, once it has ended
}

const habitConfig = `hostname = "relay.example"
[[listener]]
name = "in"
direction = %q
address = "127.0.0.1:0"
next_hop = "next"
[[next_hop]]
name = "next"
address = %q
[km]
url = %q
sae = %q
ca = %q
cert = %q
key = %q
[[peer]]
name = "peer"
sae = %q
[store]
path = %q
[log]
format = "json"
`

// startRelay starts a relay that runs until the test ends. rule is the contents of the
// default rule; if it is "", the relay decrypts.
func startRelay(t testing.TB, side kmtest.Side, nextHop, rule string) *running {
	t.Helper()
	dir := t.TempDir()
	store, direction := filepath.Join(dir, "keys.db"), "decrypt"
	if side.SAE == "" {
		store = "none" // as by default, with a key manager that keeps the keys
	}
	if rule != "" {
		direction, rule = "encrypt", "[[rule]]\ndomain = \"default\"\npeer = \"peer\"\n"+rule
	}
	config := fmt.Sprintf(habitConfig, direction, nextHop, side.KM, side.SAE, side.CA, side.Cert, side.Key, side.Peer, store)
	file := configFile(t, config+rule)
	r := &running{t: t, log: &relayLog{listening: make(chan string, 1)}, ended: make(chan struct{})}
	root := newRelay(&flags.Globals{})
	root.SetArgs([]string{"--config", file})
	root.SetErr(r.log)
	ctx, stop := context.WithCancel(context.Background())
	go func() {
		defer close(r.ended)
		r.err = root.ExecuteContext(ctx)
	}()
	t.Cleanup(func() {
		stop()
		<-r.ended
		if t.Failed() {
			t.Logf("%s relay: %v\n%s", direction, r.err, r.log)
		}
	})
	select {
	case r.address = <-r.log.listening:
	case <-r.ended:
		select { // some relays end right after they listen
		case r.address = <-r.log.listening:
		default:
			t.Fatalf("the relay does not start: %v", r.err)
		}
	}
	return r
}

// send sends a message like a mail system and returns the code of the answer.
func (r *running) send(message string) int {
	r.t.Helper()
	err := func() error {
		c, err := smtp.Dial(r.address)
		if err != nil {
			return err
		}
		defer c.Close()
		if err := c.Mail("alice@a.example", &smtp.MailOptions{Size: int64(len(message))}); err != nil {
			return err
		}
		if err := c.Rcpt("bob@b.example", nil); err != nil {
			return err
		}
		w, err := c.Data()
		if err != nil {
			return err
		}
		if _, err := io.WriteString(w, message); err != nil {
			return err
		}
		if err := w.Close(); err != nil {
			return err
		}
		return c.Quit()
	}()
	var answer *smtp.SMTPError
	switch {
	case err == nil:
		return 250
	case errors.As(err, &answer):
		return answer.Code
	}
	r.t.Errorf("no answer: %v", err)
	return 0
}

// A relayLog keeps the JSON log of a relay.
type relayLog struct {
	listening chan string

	mu   sync.Mutex
	text bytes.Buffer
}

type logLine struct{ Msg, Address, URL, Reason, Suite string }

func (l *relayLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var line logLine
	if json.Unmarshal(p, &line) == nil && line.Msg == "listening" {
		l.listening <- line.Address
	}
	return l.text.Write(p)
}

func (l *relayLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// admin returns the URL of the relay's status page.
func (l *relayLog) admin() (url string) {
	for text := range strings.Lines(l.String()) {
		var line logLine
		if json.Unmarshal([]byte(text), &line) == nil && line.Msg == "for administrators" {
			url = line.URL
		}
	}
	return url
}

// last returns the log line of the last message. It is written before the client gets
// its answer.
func (l *relayLog) last() (last logLine) {
	for text := range strings.Lines(l.String()) {
		var line logLine
		if json.Unmarshal([]byte(text), &line) == nil && (line.Msg == "delivered" || line.Msg == "refused") {
			last = line
		}
	}
	return last
}

// A mailbox is a mail system that accepts every message.
type mailbox struct {
	address string

	mu   sync.Mutex
	mail []string
}

func startMailbox(t testing.TB) *mailbox {
	t.Helper()
	m := &mailbox{}
	server := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return &mailboxSession{m}, nil }))
	server.Domain = "mailbox.example"
	server.ErrorLog = log.New(io.Discard, "", 0)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m.address = l.Addr().String()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = server.Serve(l)
	}()
	t.Cleanup(func() {
		_ = server.Close()
		_ = l.Close() // the server's Close does not close it if Serve has not begun
		<-ended
	})
	return m
}

// take returns the messages since the last call.
func (m *mailbox) take() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	mail := m.mail
	m.mail = nil
	return slices.Clone(mail)
}

type mailboxSession struct{ *mailbox }

func (mailboxSession) Mail(string, *smtp.MailOptions) error { return nil }
func (mailboxSession) Rcpt(string, *smtp.RcptOptions) error { return nil }
func (mailboxSession) Reset()                               {}
func (mailboxSession) Logout() error                        { return nil }

func (m mailboxSession) Data(r io.Reader) error {
	message, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mail = append(m.mail, string(message))
	return nil
}
