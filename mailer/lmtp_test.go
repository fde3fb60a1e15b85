package mailer_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/mailer"
	"github.com/qkdmail/qkdmail/mailer/internal/mailtest"
	"github.com/qkdmail/qkdmail/mailer/relay/config"
)

// Recipients with different rules get transactions of their own, and their own answers in
// their order.
func TestLMTPGroups(t *testing.T) {
	mailtest.NoLeaks(t)
	hop, r, c := mailtest.Start(t, mailer.DirectionEncrypt, mailtest.OverLMTP)
	message := mailtest.Text + strings.Repeat("more\r\n", 50_000)
	if got := c.Replies(message, "1@b.example", "2@clear.example", "3@b.example", "4@c.example", "5@pad.example", "6@clear.example"); got != "250 250 250 250 250 250" {
		t.Fatal(got)
	}
	byRcpts := map[string]string{}
	for _, m := range hop.Got() {
		byRcpts[strings.NewReplacer("RCPT TO:", "", "[", "", "]", "").Replace(fmt.Sprint(m.Rcpts))] = m.Data
	}
	if len(byRcpts) != 4 {
		t.Fatalf("%d transactions", len(byRcpts))
	}
	if got := byRcpts["<2@clear.example> <6@clear.example>"]; !strings.HasSuffix(got, "\r\n"+message) {
		t.Error("in clear:", mailtest.Clip(got))
	}
	for rcpts, peer := range map[string]string{"<1@b.example> <3@b.example>": "SAE_B", "<4@c.example>": "SAE_C", "<5@pad.example>": "SAE_B"} {
		in, err := cipher.Decrypt(t.Context(), strings.NewReader(byRcpts[rcpts]), r.KM, &cipher.DecryptOptions{Binder: cipher.Unbound, SAE: peer, Peers: []string{"SAE_A"}})
		if err != nil {
			t.Fatal(rcpts, err)
		}
		if got, err := io.ReadAll(in); err != nil || string(got) != message {
			t.Error(rcpts, err)
		}
	}
	if n := strings.Count(r.Log.String(), "msg=delivered"); n != 4 {
		t.Errorf("%d lines in the log", n)
	}
}

// One group fails, at any step; the other is delivered, whole, and the session goes on.
func TestLMTPOneGroupFails(t *testing.T) {
	large := mailtest.Text + strings.Repeat("0123456789\r\n", 100_000)
	for _, message := range []string{mailtest.Text, large} {
		for name, tt := range map[string]struct {
			script func(h *mailtest.Hop)
			km     error
			want   string
		}{
			"no key":           {func(*mailtest.Hop) {}, kmclient.ErrKeyExhausted, "451 250"},
			"key manager down": {func(*mailtest.Hop) {}, netError(), "451 250"},
			"RCPT":             {mailtest.Answering("RCPT TO:<1@", "550 5.1.1 no"), nil, ""},
			"DATA":             {groupFailing("DATA", "554 5.7.1 no"), nil, "554 250"},
			"DATA, drops":      {groupFailing("DATA", mailtest.Drop), nil, "451 250"},
			"body, drops":      {groupFailing("BODY", mailtest.Drop), nil, "451 250"},
			"dot":              {groupFailing("DOT", "550 5.7.1 no"), nil, "550 250"},
			"dot, drops":       {groupFailing("DOT", mailtest.Drop), nil, "451 250"},
		} {
			t.Run(fmt.Sprint(name, len(message)), func(t *testing.T) {
				mailtest.NoLeaks(t)
				hop := mailtest.StartHop(t, tt.script)
				r := mailtest.StartRelay(t, mailer.DirectionEncrypt, hop.Addr(), mailtest.OverLMTP)
				if tt.km != nil {
					r.KM.OnGet = func(context.Context) error { return tt.km }
				}
				c := mailtest.Connect(t, r)
				if tt.want == "" {
					c.Want("250", c.Cmd("MAIL FROM:<alice@a.example>"))
					c.Want("550", c.Cmd("RCPT TO:<1@b.example>"))
					c.Want("250", c.Cmd("RCPT TO:<2@clear.example>"))
					c.Want("354", c.Cmd("DATA"))
					c.Send(mailtest.Stuffed(message))
					c.Want("250", c.Reply())
				} else if got := c.Replies(message, "1@b.example", "2@clear.example"); got != tt.want {
					t.Errorf("%s, want %s", got, tt.want)
				}
				if m := hop.One(); !strings.HasSuffix(m.Data, "\r\n"+message) || fmt.Sprint(m.Rcpts) != "[RCPT TO:<2@clear.example>]" {
					t.Error(m.Rcpts, mailtest.Clip(m.Data))
				}
				r.KM.OnGet = nil
				c.Want("250", c.Cmd("NOOP"))
			})
		}
	}
}

// groupFailing makes one step fail in the transaction of <1@b.example>.
func groupFailing(at, how string) func(*mailtest.Hop) {
	return func(h *mailtest.Hop) {
		h.PerConn = func() mailtest.Script {
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

// If the client stops in the middle, no group's message ends.
func TestLMTPClientDrops(t *testing.T) {
	mailtest.NoLeaks(t)
	hop, r, c := mailtest.Start(t, mailer.DirectionEncrypt, mailtest.OverLMTP)
	c.Begin("alice@a.example", "1@b.example", "2@clear.example", "3@c.example")
	c.Send(mailtest.Text + strings.Repeat("0123456789\r\n", 50_000))
	_ = c.Conn.Close()
	hop.WasCut()
	if err := r.Stop(); err != nil {
		t.Error(err)
	}
	hop.None()
}

// No answer comes before the whole message has come, since a client may read only after
// its dot.
func TestLMTPNoEarlyAnswer(t *testing.T) {
	mailtest.NoLeaks(t)
	for _, d := range []mailer.Direction{mailer.DirectionEncrypt, mailer.DirectionDecrypt} {
		hop := mailtest.StartHop(t, mailtest.Answering("DATA", "554 5.7.1 no"))
		r := mailtest.StartRelay(t, d, hop.Addr(), mailtest.OverLMTP)
		c := mailtest.Connect(t, r)
		c.Begin("x@x.example", "1@b.example", "2@clear.example")
		c.Send("From: x@x.example\r\n\r\nbody\r\n")
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, _ = c.In.Peek(1)
		}()
		select {
		case <-done:
			t.Error("an answer before the end")
		case <-mailtest.After(300):
		}
		c.Send(".\r\n")
		<-done
		c.Want("554", c.Reply())
		c.Want("554", c.Reply())
		c.Want("250", c.Cmd("NOOP"))
	}
}

// An LMTP next hop answers for each recipient, including repeated ones.
func TestLMTPNextHop(t *testing.T) {
	mailtest.Directions(t, func(t *testing.T, d mailer.Direction) {
		for _, tt := range []struct {
			name   string
			script func(*mailtest.Hop)
			to     []string
			want   string
		}{
			{"all", func(*mailtest.Hop) {}, []string{"1@b.example", "2@b.example"}, "250 250"},
			{"one refused", mailtest.Answering("DOT RCPT TO:<2@", "550 5.2.2 full"), []string{"1@b.example", "2@b.example", "3@b.example"}, "250 550 250"},
			{"one later", mailtest.Answering("DOT RCPT TO:<1@", "452 4.2.2 full"), []string{"1@b.example", "2@b.example"}, "452 250"},
			{"all refused", mailtest.Answering("DOT", "550 5.2.2 full"), []string{"1@b.example", "2@b.example"}, "550 550"},
			{"quoted", mailtest.Answering(`DOT RCPT TO:<"2 x"@`, "550 5.2.2 full"), []string{"1@b.example", `"2 x"@b.example`}, "250 550"},
			{"doubled", func(*mailtest.Hop) {}, []string{"1@b.example", "2@b.example", "1@b.example"}, "250 250 250"},
			{"doubled and refused", mailtest.Answering("DOT RCPT TO:<1@", "550 5.2.2 full"), []string{"1@b.example", "2@b.example", "1@b.example"}, "550 250 550"},
			{"drops after the first", mailtest.Answering("DOT RCPT TO:<2@", mailtest.Drop), []string{"1@b.example", "2@b.example", "3@b.example"}, "250 451 451"},
			{"refuses, then drops", func(h *mailtest.Hop) {
				h.Script = func(line string) string {
					switch {
					case strings.HasPrefix(line, "DOT RCPT TO:<1@"):
						return "550 5.2.2 full"
					case strings.HasPrefix(line, "DOT RCPT TO:<2@"):
						return mailtest.Drop
					}
					return ""
				}
			}, []string{"1@b.example", "2@b.example", "3@b.example"}, "550 451 451"},
			{"two groups", mailtest.Answering("DOT RCPT TO:<2@", "550 5.2.2 full"), []string{"1@b.example", "2@b.example", "3@clear.example"}, "250 550 250"},
		} {
			t.Run(tt.name, func(t *testing.T) {
				mailtest.NoLeaks(t)
				hop := mailtest.StartHop(t, func(h *mailtest.Hop) { h.LMTP = true; tt.script(h) })
				r := mailtest.StartRelay(t, d, hop.Addr(), mailtest.BothLMTP)
				c := mailtest.Connect(t, r)
				if got := c.Replies(mailtest.MessageFor(t, d, r.KM), tt.to...); got != tt.want {
					t.Errorf("%s, want %s", got, tt.want)
				}
				c.Want("250", c.Cmd("NOOP"))
				// The connection is in order, or was closed.
				hop.Follow(nil)
				if got := c.Replies(mailtest.MessageFor(t, d, r.KM), "9@b.example"); got != "250" {
					t.Error("after it:", got)
				}
			})
		}
	})
}

// A recordingBackend is a library user's backend: it reads as much of a message as it is
// told to, and answers.
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

func (s *recordingSession) Reset() {}

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

// statuses are the answers for recipients.
type statuses map[string]error

func (s statuses) SetStatus(rcpt string, err error) { s[rcpt] = err }

// lmtpAnswers sends a message through a step, over LMTP.
func lmtpAnswers(t *testing.T, step smtp.Backend, message string, rcpts ...string) statuses {
	t.Helper()
	s, err := step.NewSession(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Logout() }()
	if err := s.Mail("alice@a.example", nil); err != nil {
		t.Fatal(err)
	}
	for _, to := range rcpts {
		if err := s.Rcpt(to, nil); err != nil {
			t.Fatal(err)
		}
	}
	got := statuses{}
	_ = s.(smtp.LMTPSession).LMTPData(strings.NewReader(message), got)
	return got
}

// A backend that stops reading gives its own answer, at once or in the middle;
// one that swallows an error gives none.
func TestBackendStopsEarly(t *testing.T) {
	policy, err := mailtest.Config(mailer.DirectionEncrypt, "127.0.0.1:1").Policy()
	if err != nil {
		t.Fatal(err)
	}
	refusal := &smtp.SMTPError{Code: 552, EnhancedCode: smtp.EnhancedCode{5, 3, 4}, Message: "too big"}
	large := mailtest.Text + strings.Repeat("0123456789\r\n", 100_000)
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
				mailtest.NoLeaks(t)
				b := &recordingBackend{read: tt.read}
				km := mailtest.NewKM()
				if tt.km != nil {
					km.OnGet = func(context.Context) error { return tt.km }
				}
				backend, err := mailer.Encrypt(b, mailer.EncryptOptions{Step: mailer.Step{Policy: policy, LMTP: true}, Keys: km})
				if err != nil {
					t.Fatal(err)
				}
				got := lmtpAnswers(t, backend, large, rcpts...)
				for i, to := range rcpts {
					if tt.km != nil && i > 0 {
						continue // in clear, needs no key
					}
					code := 0
					if e, ok := got[to].(*smtp.SMTPError); ok {
						code = e.Code
					}
					if code != tt.code {
						t.Errorf("%s: %v", to, got[to])
					}
				}
				if b.open != 0 {
					t.Errorf("%d sessions left", b.open)
				}
			})
		}
	}
}

// A message that only some of its recipients have got was delivered in part, not refused.
func TestDeliveredInPart(t *testing.T) {
	mailtest.Directions(t, func(t *testing.T, d mailer.Direction) {
		mailtest.NoLeaks(t)
		hop := mailtest.StartHop(t, func(h *mailtest.Hop) {
			h.LMTP = true
			mailtest.Answering("DOT RCPT TO:<two", "452 4.2.2 full")(h)
		})
		r := mailtest.StartRelay(t, d, hop.Addr(), mailtest.BothLMTP)
		seen := &mailtest.Recorder{}
		r.Observe(seen)
		c := mailtest.Connect(t, r)
		c.Begin("alice@a.example", "one@b.example", "two@b.example", "three@b.example")
		c.Send(mailtest.Stuffed(mailtest.MessageFor(t, d, r.KM)))
		for _, want := range []string{"250", "452 4.2.2", "250"} {
			c.Want(want, c.Reply())
		}
		if got := seen.Last(t, 1); got.Delivered != 2 || got.Reason != "" || got.Outcome == mailer.OutcomeRefused || got.Outcome == mailer.OutcomeDeferred {
			t.Errorf("reported %+v", got)
		}
		if log := r.Log.String(); !strings.Contains(log, `msg="delivered in part"`) || !strings.Contains(log, "delivered=2") || strings.Contains(log, "msg=refused") {
			t.Error("the log does not say that two of three have got it")
		}
	})
}

// With one connection to the next hop for two groups, the second is told to come again,
// and nothing waits forever.
func TestLMTPGroupsOneConnection(t *testing.T) {
	mailtest.NoLeaks(t)
	hop, _, c := mailtest.Start(t, mailer.DirectionEncrypt, mailtest.OverLMTP, func(c *config.Config) {
		c.NextHops[0].MaxConnections, c.Timeouts.Connect = 1, 100*time.Millisecond
	})
	c.Want("250", c.Cmd("MAIL FROM:<a@a.example>"))
	c.Want("250", c.Cmd("RCPT TO:<1@b.example>"))
	c.Want("451 4.3.2", c.Cmd("RCPT TO:<2@clear.example>"))
	c.Want("354", c.Cmd("DATA"))
	c.Send(mailtest.Stuffed(mailtest.Text))
	c.Want("250", c.Reply())
	hop.One()
}

// A backend that answers for each recipient is asked to, even without HandOver.
func TestLMTPBackend(t *testing.T) {
	mailtest.NoLeaks(t)
	policy, err := mailtest.Config(mailer.DirectionEncrypt, "127.0.0.1:1").Policy()
	if err != nil {
		t.Fatal(err)
	}
	hop := mailtest.StartHop(t, func(h *mailtest.Hop) {
		h.LMTP = true
		mailtest.Answering("DOT RCPT TO:<two@", "550 5.2.2 full")(h)
	})
	step, err := mailer.Encrypt(mailtest.NextHop(t, hop), mailer.EncryptOptions{Step: mailer.Step{Policy: policy, LMTP: true}, Keys: mailtest.NewKM()})
	if err != nil {
		t.Fatal(err)
	}
	got := lmtpAnswers(t, step, mailtest.Text, "one@b.example", "two@b.example")
	reply, ok := got["two@b.example"].(*smtp.SMTPError)
	if got["one@b.example"] != nil || !ok || reply.Code != 550 {
		t.Errorf("the answers are %v, want 250 and 550", got)
	}
	hop.One()
}
