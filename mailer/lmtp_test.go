package mailer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/emersion/go-smtp"
	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/kmclient"
)

func overLMTP(c *Config) { c.Listeners[0].Protocol = ProtocolLMTP }

func bothLMTP(c *Config) {
	overLMTP(c)
	c.NextHops[0].Protocol = ProtocolLMTP
}

// replies sends a message and returns the reply for each recipient.
func (c *testClient) replies(message string, to ...string) string {
	c.t.Helper()
	c.begin("alice@a.example", to...)
	c.send(stuffed(message))
	var all []string
	for range to {
		reply := c.reply()
		all = append(all, reply[:min(len(reply), 3)])
	}
	return strings.Join(all, " ")
}

// Recipients of different policies get transactions of their own, and answers
// of their own in their order.
func TestLMTPGroups(t *testing.T) {
	noLeaks(t)
	hop := startHop(t)
	r := startRelay(t, DirectionEncrypt, hop.addr(), overLMTP)
	c := connect(t, r)
	message := testMessage + strings.Repeat("more\r\n", 50_000)
	if got := c.replies(message, "1@b.example", "2@clear.example", "3@b.example", "4@c.example", "5@pad.example", "6@clear.example"); got != "250 250 250 250 250 250" {
		t.Fatal(got)
	}
	byRcpts := map[string]string{}
	for _, m := range hop.got() {
		byRcpts[strings.NewReplacer("RCPT TO:", "", "[", "", "]", "").Replace(fmt.Sprint(m.rcpts))] = m.data
	}
	if len(byRcpts) != 4 {
		t.Fatalf("%d transactions", len(byRcpts))
	}
	if got := byRcpts["<2@clear.example> <6@clear.example>"]; !strings.HasSuffix(got, "\r\n"+message) {
		t.Error("in clear:", clip(got))
	}
	for rcpts, peer := range map[string]string{"<1@b.example> <3@b.example>": "SAE_B", "<4@c.example>": "SAE_C", "<5@pad.example>": "SAE_B"} {
		in, err := cipher.Decrypt(t.Context(), strings.NewReader(byRcpts[rcpts]), r.km, &cipher.DecryptOptions{Binder: cipher.Unbound, SAE: peer, Peers: []string{"SAE_A"}})
		if err != nil {
			t.Fatal(rcpts, err)
		}
		if got, err := io.ReadAll(in); err != nil || string(got) != message {
			t.Error(rcpts, err)
		}
	}
	if n := strings.Count(r.log.String(), "msg=delivered"); n != 4 {
		t.Errorf("%d lines in the log", n)
	}
}

// One group fails, wherever it does; the other is delivered, whole, and the
// session goes on.
func TestLMTPOneGroupFails(t *testing.T) {
	large := testMessage + strings.Repeat("0123456789\r\n", 100_000)
	for _, message := range []string{testMessage, large} {
		for name, tt := range map[string]struct {
			script func(h *testHop)
			km     error
			want   string
		}{
			"no key":           {func(*testHop) {}, kmclient.ErrKeyExhausted, "451 250"},
			"key manager down": {func(*testHop) {}, netError(), "451 250"},
			"RCPT":             {answering("RCPT TO:<1@", "550 5.1.1 no"), nil, ""},
			"DATA":             {groupFailing("DATA", "554 5.7.1 no"), nil, "554 250"},
			"DATA, drops":      {groupFailing("DATA", drop), nil, "451 250"},
			"body, drops":      {groupFailing("BODY", drop), nil, "451 250"},
			"dot":              {groupFailing("DOT", "550 5.7.1 no"), nil, "550 250"},
			"dot, drops":       {groupFailing("DOT", drop), nil, "451 250"},
		} {
			t.Run(fmt.Sprint(name, len(message)), func(t *testing.T) {
				noLeaks(t)
				hop := startHop(t, tt.script)
				r := startRelay(t, DirectionEncrypt, hop.addr(), overLMTP)
				if tt.km != nil {
					r.km.get = func(context.Context) error { return tt.km }
				}
				c := connect(t, r)
				if tt.want == "" {
					c.want("250", c.cmd("MAIL FROM:<alice@a.example>"))
					c.want("550", c.cmd("RCPT TO:<1@b.example>"))
					c.want("250", c.cmd("RCPT TO:<2@clear.example>"))
					c.want("354", c.cmd("DATA"))
					c.send(stuffed(message))
					c.want("250", c.reply())
				} else if got := c.replies(message, "1@b.example", "2@clear.example"); got != tt.want {
					t.Errorf("%s, want %s", got, tt.want)
				}
				if m := hop.one(); !strings.HasSuffix(m.data, "\r\n"+message) || fmt.Sprint(m.rcpts) != "[RCPT TO:<2@clear.example>]" {
					t.Error(m.rcpts, clip(m.data))
				}
				r.km.get = nil
				c.want("250", c.cmd("NOOP"))
			})
		}
	}
}

// groupFailing fails one step of the transaction that <1@b.example> is in.
func groupFailing(at, how string) func(*testHop) {
	return func(h *testHop) {
		h.perConn = func() func(string) string {
			first := false
			return func(line string) string {
				if strings.HasPrefix(line, "RCPT") {
					first = strings.HasPrefix(line, "RCPT TO:<1@")
				}
				if first && strings.HasPrefix(line, at) {
					return how
				}
				return ""
			}
		}
	}
}

// The client stops in the middle: no group's message ends.
func TestLMTPClientDrops(t *testing.T) {
	noLeaks(t)
	hop := startHop(t)
	r := startRelay(t, DirectionEncrypt, hop.addr(), overLMTP)
	c := connect(t, r)
	c.begin("alice@a.example", "1@b.example", "2@clear.example", "3@c.example")
	c.send(testMessage + strings.Repeat("0123456789\r\n", 50_000))
	_ = c.conn.Close()
	hop.wasCut()
	if err := r.stop(); err != nil {
		t.Error(err)
	}
	hop.none()
}

// No answer comes before the whole message has: a client that reads after its
// dot only must not be surprised.
func TestLMTPNoEarlyAnswer(t *testing.T) {
	noLeaks(t)
	for _, d := range []Direction{DirectionEncrypt, DirectionDecrypt} {
		hop := startHop(t, answering("DATA", "554 5.7.1 no"))
		r := startRelay(t, d, hop.addr(), overLMTP)
		c := connect(t, r)
		c.begin("x@x.example", "1@b.example", "2@clear.example")
		c.send("From: x@x.example\r\n\r\nbody\r\n")
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, _ = c.in.Peek(1)
		}()
		select {
		case <-done:
			t.Error("an answer before the end")
		case <-after(300):
		}
		c.send(".\r\n")
		<-done
		c.want("554", c.reply())
		c.want("554", c.reply())
		c.want("250", c.cmd("NOOP"))
	}
}

// An LMTP next hop answers for each recipient; doubled ones too.
func TestLMTPNextHop(t *testing.T) {
	directions(t, func(t *testing.T, d Direction) {
		for _, tt := range []struct {
			name   string
			script func(*testHop)
			to     []string
			want   string
		}{
			{"all", func(*testHop) {}, []string{"1@b.example", "2@b.example"}, "250 250"},
			{"one refused", answering("DOT RCPT TO:<2@", "550 5.2.2 full"), []string{"1@b.example", "2@b.example", "3@b.example"}, "250 550 250"},
			{"one later", answering("DOT RCPT TO:<1@", "452 4.2.2 full"), []string{"1@b.example", "2@b.example"}, "452 250"},
			{"all refused", answering("DOT", "550 5.2.2 full"), []string{"1@b.example", "2@b.example"}, "550 550"},
			{"quoted", answering(`DOT RCPT TO:<"2 x"@`, "550 5.2.2 full"), []string{"1@b.example", `"2 x"@b.example`}, "250 550"},
			{"doubled", func(*testHop) {}, []string{"1@b.example", "2@b.example", "1@b.example"}, "250 250 250"},
			{"doubled and refused", answering("DOT RCPT TO:<1@", "550 5.2.2 full"), []string{"1@b.example", "2@b.example", "1@b.example"}, "550 250 550"},
			{"drops after the first", answering("DOT RCPT TO:<2@", drop), []string{"1@b.example", "2@b.example", "3@b.example"}, "250 451 451"},
			{"refuses, then drops", func(h *testHop) {
				h.script = func(line string) string {
					switch {
					case strings.HasPrefix(line, "DOT RCPT TO:<1@"):
						return "550 5.2.2 full"
					case strings.HasPrefix(line, "DOT RCPT TO:<2@"):
						return drop
					}
					return ""
				}
			}, []string{"1@b.example", "2@b.example", "3@b.example"}, "550 451 451"},
			{"two groups", answering("DOT RCPT TO:<2@", "550 5.2.2 full"), []string{"1@b.example", "2@b.example", "3@clear.example"}, "250 550 250"},
		} {
			t.Run(tt.name, func(t *testing.T) {
				noLeaks(t)
				hop := startHop(t, func(h *testHop) { h.lmtp = true; tt.script(h) })
				r := startRelay(t, d, hop.addr(), bothLMTP)
				c := connect(t, r)
				if got := c.replies(messageFor(t, d, r.km), tt.to...); got != tt.want {
					t.Errorf("%s, want %s", got, tt.want)
				}
				c.want("250", c.cmd("NOOP"))
				// The connection was left in order, or not left at all.
				hop.behave()
				if got := c.replies(messageFor(t, d, r.km), "9@b.example"); got != "250" {
					t.Error("after it:", got)
				}
			})
		}
	})
}

// A recordingBackend is one of a library user: it reads as much of a message as
// it is told to, and answers.
type recordingBackend struct {
	read func(r io.Reader) error

	mu   sync.Mutex
	got  []string
	open int
}

func (b *recordingBackend) NewSession(*smtp.Conn) (smtp.Session, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.open++
	return &recordingSession{b: b}, nil
}

type recordingSession struct{ b *recordingBackend }

func (s *recordingSession) Mail(string, *smtp.MailOptions) error { return nil }
func (s *recordingSession) Rcpt(string, *smtp.RcptOptions) error { return nil }
func (s *recordingSession) Reset()                               {}
func (s *recordingSession) Logout() error {
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	s.b.open--
	return nil
}

func (s *recordingSession) Data(r io.Reader) error {
	if s.b.read != nil {
		return s.b.read(r)
	}
	text, err := io.ReadAll(r)
	if err == nil {
		s.b.mu.Lock()
		s.b.got = append(s.b.got, string(text))
		s.b.mu.Unlock()
	}
	return err
}

// A backend that stops reading gives its own answer, at once or in the middle;
// one that swallows an error gives none.
func TestBackendStopsEarly(t *testing.T) {
	policy, err := NewPolicy(relayConfig(DirectionEncrypt, "127.0.0.1:1"))
	if err != nil {
		t.Fatal(err)
	}
	refusal := &smtp.SMTPError{Code: 552, EnhancedCode: smtp.EnhancedCode{5, 3, 4}, Message: "too big"}
	large := testMessage + strings.Repeat("0123456789\r\n", 100_000)
	for name, tt := range map[string]struct {
		read func(io.Reader) error
		km   error
		code int
	}{
		"at once":           {func(io.Reader) error { return refusal }, nil, 552},
		"in the middle":     {func(r io.Reader) error { _, _ = io.CopyN(io.Discard, r, 100_000); return refusal }, nil, 552},
		"other error":       {func(io.Reader) error { return errors.New("disk full") }, nil, 451},
		"nil, unread":       {func(io.Reader) error { return nil }, nil, 0},
		"swallows":          {func(r io.Reader) error { _, _ = io.Copy(io.Discard, r); return nil }, kmclient.ErrKeyExhausted, 451},
		"no key":            {func(r io.Reader) error { _, err := io.Copy(io.Discard, r); return err }, kmclient.ErrKeyExhausted, 451},
		"takes all":         {func(r io.Reader) error { _, err := io.Copy(io.Discard, r); return err }, nil, 0},
		"a strange success": {func(io.Reader) error { return &smtp.SMTPError{Code: 250} }, nil, 451},
		"panics":            {func(io.Reader) error { panic("x") }, nil, 451},
	} {
		for _, rcpts := range [][]string{{"1@b.example"}, {"1@b.example", "2@clear.example"}, {"1@clear.example"}} {
			if tt.km != nil && strings.Contains(rcpts[0], "clear") {
				continue
			}
			t.Run(fmt.Sprint(name, rcpts), func(t *testing.T) {
				noLeaks(t)
				b := &recordingBackend{read: tt.read}
				km := newTestKM()
				if tt.km != nil {
					km.get = func(context.Context) error { return tt.km }
				}
				backend := Encrypt(b, EncryptOptions{Step: Step{Policy: policy, SAE: "SAE_A", LMTP: true}, Keys: km})
				s, err := backend.NewSession(nil)
				if err != nil {
					t.Fatal(err)
				}
				if err := s.Mail("a@a.example", nil); err != nil {
					t.Fatal(err)
				}
				for _, to := range rcpts {
					if err := s.Rcpt(to, nil); err != nil {
						t.Fatal(err)
					}
				}
				got := &collector{answers: map[string]error{}}
				_ = s.(smtp.LMTPSession).LMTPData(strings.NewReader(large), got)
				_ = s.Logout()
				for i, to := range rcpts {
					if tt.km != nil && i > 0 {
						continue // in clear, needs no key
					}
					code := 0
					if e, ok := got.answers[to].(*smtp.SMTPError); ok {
						code = e.Code
					}
					if code != tt.code {
						t.Errorf("%s: %v", to, got.answers[to])
					}
				}
				if b.open != 0 {
					t.Errorf("%d sessions left", b.open)
				}
			})
		}
	}
}

// A message that some of its recipients have got was delivered in part, and not
// refused.
func TestDeliveredInPart(t *testing.T) {
	directions(t, func(t *testing.T, d Direction) {
		noLeaks(t)
		hop := startHop(t, func(h *testHop) {
			h.lmtp = true
			answering("DOT RCPT TO:<two", "452 4.2.2 full")(h)
		})
		r := startRelay(t, d, hop.addr(), bothLMTP)
		seen := &recorder{}
		r.Observe(seen)
		c := connect(t, r)
		c.begin("alice@a.example", "one@b.example", "two@b.example", "three@b.example")
		c.send(stuffed(messageFor(t, d, r.km)))
		for _, want := range []string{"250", "452 4.2.2", "250"} {
			c.want(want, c.reply())
		}
		if got := seen.last(t, 1); got.Delivered != 2 || got.Reason != "" || got.Outcome == OutcomeRefused || got.Outcome == OutcomeDeferred {
			t.Errorf("reported %+v", got)
		}
		if log := r.log.String(); !strings.Contains(log, `msg="delivered in part"`) || !strings.Contains(log, "delivered=2") || strings.Contains(log, "msg=refused") {
			t.Error("the log does not say that two of three have got it")
		}
	})
}
