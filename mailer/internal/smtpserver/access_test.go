package smtpserver_test

import (
	"encoding/base64"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/mailer"
	"github.com/qkdmail/qkdmail/mailer/internal/mailtest"
	"github.com/qkdmail/qkdmail/mailer/internal/testcerts"
	"github.com/qkdmail/qkdmail/mailer/relay/config"
	"golang.org/x/crypto/bcrypt"
)

// usersFile has bob with the password "secret".
func usersFile(t testing.TB) string {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte("secret"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "users")
	if err := os.WriteFile(name, []byte("bob:"+string(hash)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// Who may send: a relay is never open. "" in want means 250.
func TestWhoMaySend(t *testing.T) {
	certs, users := testcerts.Make(t), usersFile(t)
	elsewhere := []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	withTLS := func(mode config.TLSMode) func(*config.Listener) {
		return func(l *config.Listener) { l.TLS, l.TLSCert, l.TLSKey = mode, certs.Cert, certs.Key }
	}
	authenticated := func(l *config.Listener) {
		withTLS(config.TLSOpportunistic)(l)
		l.AuthFile, l.Networks = users, mailtest.Anywhere()
	}
	for _, tt := range []struct {
		name    string
		set     func(*config.Listener)
		tls     bool
		auth    string // the command, or nothing
		greeted string
		authed  string
		want    string
	}{
		{name: "loopback, by default", set: func(*config.Listener) {}},
		{name: "another network", set: func(l *config.Listener) { l.Networks = elsewhere }, greeted: "554 5.7.1"},
		{name: "no network", set: func(l *config.Listener) { l.Networks = []netip.Prefix{} }, greeted: "554 5.7.1"},
		{name: "another network with TLS", set: func(l *config.Listener) { withTLS(config.TLSRequired)(l); l.Networks = elsewhere }, greeted: "554 5.7.1"},
		{name: "TLS required, in clear", set: withTLS(config.TLSRequired), want: "530 5.7.0 Must issue a STARTTLS"},
		{name: "TLS required, in TLS", set: withTLS(config.TLSRequired), tls: true},
		{name: "TLS offered, in clear", set: withTLS(config.TLSOpportunistic)},
		{name: "TLS offered, in TLS", set: withTLS(config.TLSOpportunistic), tls: true},
		{name: "AUTH where there is none", set: withTLS(config.TLSOpportunistic), tls: true, auth: "AUTH PLAIN " + mailtest.AuthPlain("bob", "secret"), authed: "5"},
		{name: "AUTH needed, nothing", set: authenticated, want: "530 5.7.0"},
		{name: "AUTH needed, TLS only", set: authenticated, tls: true, want: "530 5.7.0"},
		{name: "AUTH in clear", set: authenticated, auth: "AUTH PLAIN " + mailtest.AuthPlain("bob", "secret"), authed: "5", want: "530 5.7.0"},
		{name: "AUTH, wrong password", set: authenticated, tls: true, auth: "AUTH PLAIN " + mailtest.AuthPlain("bob", "wrong"), authed: "535", want: "530 5.7.0"},
		{name: "AUTH, no such user", set: authenticated, tls: true, auth: "AUTH PLAIN " + mailtest.AuthPlain("eve", "secret"), authed: "535", want: "530 5.7.0"},
		{name: "AUTH for another", set: authenticated, tls: true, auth: "AUTH PLAIN " + base64.StdEncoding.EncodeToString([]byte("eve\x00bob\x00secret")), authed: "535", want: "530 5.7.0"},
		{name: "AUTH LOGIN", set: authenticated, tls: true, auth: "AUTH LOGIN", authed: "504", want: "530 5.7.0"},
		{name: "AUTH, no base64", set: authenticated, tls: true, auth: "AUTH PLAIN !!", authed: "501 5.5.2", want: "530 5.7.0"},
		{name: "AUTH in TLS", set: authenticated, tls: true, auth: "AUTH PLAIN " + mailtest.AuthPlain("bob", "secret"), authed: "235"},
		{name: "AUTH, but another network", set: func(l *config.Listener) { authenticated(l); l.Networks = elsewhere }, greeted: "554 5.7.1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			mailtest.NoLeaks(t)
			hop := mailtest.StartHop(t)
			r := mailtest.StartRelay(t, mailer.DirectionEncrypt, hop.Addr(), func(c *config.Config) { tt.set(&c.Listeners[0]) })
			c := mailtest.Dial(t, r.Addr)
			if tt.greeted != "" {
				c.Want(tt.greeted, c.Reply())
				c.Closed()
				return
			}
			c.Want("220", c.Reply())
			hello := c.Want("250", c.Cmd("EHLO x"))
			if strings.Contains(hello, "AUTH") {
				t.Error("AUTH is offered in clear")
			}
			if tt.tls {
				c.StartTLS()
				if hello = c.Want("250", c.Cmd("EHLO x")); strings.Contains(hello, "STARTTLS") {
					t.Error("STARTTLS is offered in TLS")
				}
				if strings.Contains(hello, "AUTH PLAIN") != (r.Config.Listeners[0].AuthFile != "") {
					t.Error("AUTH:", hello)
				}
			}
			if tt.auth != "" {
				c.Want(tt.authed, c.Cmd(tt.auth))
			}
			want := tt.want
			if want == "" {
				want = "250"
			}
			reply := c.Want(want, c.Cmd("MAIL FROM:<a@a.example>"))
			if strings.HasPrefix(reply, "250") {
				c.Want("250", c.Cmd("RCPT TO:<b@anywhere.example>"))
				c.Want("354", c.Cmd("DATA"))
				c.Send(mailtest.Stuffed(mailtest.Text))
				c.Want("250", c.Reply())
				hop.One()
				return
			}
			// No other way around.
			for _, line := range []string{"RCPT TO:<b@b.example>", "DATA", "BDAT 5 LAST\r\nhello"} {
				c.Want("5", c.Cmd(line))
			}
			hop.None()
		})
	}
}

func TestXFORWARD(t *testing.T) {
	mailtest.NoLeaks(t)
	hop, _, c := mailtest.Start(t, mailer.DirectionEncrypt)
	if strings.Contains(c.Want("250", c.Cmd("EHLO x")), "XFORWARD") {
		t.Error("it is offered to a client that may not use it")
	}
	c.Want("550 5.7.1", c.Cmd("XFORWARD ADDR=192.0.2.1"))

	r := mailtest.StartRelay(t, mailer.DirectionEncrypt, hop.Addr(), func(c *config.Config) { c.Listeners[0].XForward = c.Listeners[0].Networks })
	c = mailtest.Connect(t, r)
	if !strings.Contains(c.Want("250", c.Cmd("EHLO x")), "250-XFORWARD NAME ADDR") {
		t.Error("it is not offered")
	}
	c.Want("250", c.Cmd("XFORWARD NAME=mail.x.example ADDR=192.0.2.1 IDENT=QID1"))
	c.Want("250", c.Cmd("XFORWARD IDENT=\xff\xfe\"level=ERROR PROTO=[UNAVAILABLE]"))
	for _, bad := range []string{"XFORWARD EVIL=1", "XFORWARD ADDR", "XFORWARD ADDR=" + strings.Repeat("1", 256)} {
		c.Want("501", c.Cmd(bad))
	}
	c.Want("50", c.Cmd("XFORWARD ADDR=\x1b[31m"))
	c.Want("250", c.Attempt(mailtest.Text))
	log := r.Log.String()
	if !strings.Contains(log, "client_addr=192.0.2.1") || strings.Contains(log, "\nlevel") || strings.Contains(log, "\x1b") || strings.Contains(log, "\xff") {
		t.Error("the log")
	}
}

// Endless commands that the server itself refuses.
func TestManyBadCommands(t *testing.T) {
	mailtest.NoLeaks(t)
	hop := mailtest.StartHop(t)
	r := mailtest.StartRelay(t, mailer.DirectionEncrypt, hop.Addr())
	for _, line := range []string{"XFORWARD X=1", "STARTTLS x", "\x01", "FOO", "BDAT 1"} {
		c := mailtest.Connect(t, r)
		for range 20 {
			c.Send(line + "\r\n")
		}
		c.Closed()
	}
	c := mailtest.Connect(t, r)
	c.Want("500", c.Cmd("NOOP "+strings.Repeat("x", 3000)))
	c.Want("500", c.Cmd("NOOP "+strings.Repeat("x", 30_000)))
	c.Want("250", c.Cmd("NOOP"))
}

func TestConnectionLimits(t *testing.T) {
	mailtest.NoLeaks(t)
	hop := mailtest.StartHop(t)
	for name, set := range map[string]func(*config.Config){
		"421 4.3.2": func(c *config.Config) { c.Limits.Connections = 3 },
		"421 4.7.0": func(c *config.Config) { c.Limits.ConnectionsPerClient = 3 },
	} {
		r := mailtest.StartRelay(t, mailer.DirectionEncrypt, hop.Addr(), set)
		var open []*mailtest.Client
		for range 3 {
			open = append(open, mailtest.Connect(t, r))
		}
		c := mailtest.Dial(t, r.Addr)
		c.Want(name, c.Reply())
		c.Closed()
		open[0].Want("221", open[0].Cmd("QUIT"))
		open[0].Closed()
		_ = open[1].Conn.Close()
		for end := time.Now().Add(mailtest.Patience); ; time.Sleep(time.Millisecond) {
			c := mailtest.Dial(t, r.Addr)
			if strings.HasPrefix(c.Reply(), "220") {
				break
			}
			if time.Now().After(end) {
				t.Fatal("places are not given back")
			}
		}
	}
}

func TestMessageLimits(t *testing.T) {
	mailtest.Directions(t, func(t *testing.T, d mailer.Direction) {
		mailtest.NoLeaks(t)
		hop := mailtest.StartHop(t)
		r := mailtest.StartRelay(t, d, hop.Addr(), func(c *config.Config) {
			c.Limits.MessageSize, c.Limits.HeaderSize, c.Limits.LineLength = 5000, 2000, 500
			c.Limits.Received, c.Limits.Recipients = 3, 2
		})
		header := "From: x@x.example\r\n"
		send := func(message string) string {
			c := mailtest.Connect(t, r)
			defer c.Conn.Close()
			return c.Mail(message, "x@x.example", "y@clear.example")
		}
		fill := func(n int) string { return strings.Repeat(strings.Repeat("x", 98)+"\r\n", n/100) }
		for _, tt := range []struct{ name, message, want string }{
			{"good", header + "\r\nbody\r\n", "250"},
			{"just small enough", header + "\r\n" + fill(4900) + strings.Repeat("x", 5000-4900-len(header)-4) + "\r\n", "250"},
			{"too large", header + "\r\n" + fill(5000), "552 5.3.4"},
			{"header too large", header + strings.Repeat("X: "+fill(100), 25) + "\r\nbody\r\n", "552 5.3.4"},
			{"no end of header", fill(3000), "552 5.3.4"},
			{"longest line", header + "\r\n" + strings.Repeat("x", 500) + "\r\n", "250"},
			{"line too long", header + "\r\n" + strings.Repeat("x", 501) + "\r\n", "550 5.6.0"},
			{"three hops", strings.Repeat("Received: x\r\n", 3) + header + "\r\nbody\r\n", "250"},
			{"a loop", strings.Repeat("Received: x\r\n", 4) + header + "\r\nbody\r\n", "554 5.4.6"},
			{"NUL", header + "\r\na\x00b\r\n", "550 5.6.0"},
		} {
			hop.Forget()
			if reply := send(tt.message); !strings.HasPrefix(reply, tt.want) {
				t.Errorf("%s: %s", tt.name, reply)
			}
			if got := len(hop.Got()); (got == 1) != (tt.want == "250") {
				t.Errorf("%s: %d messages", tt.name, got)
			}
		}
		c := mailtest.Connect(t, r)
		c.Want("552 5.3.4", c.Cmd("MAIL FROM:<x@x.example> SIZE=5001"))
		c.Want("250", c.Cmd("MAIL FROM:<x@x.example> SIZE=5000"))
		c.Want("250", c.Cmd("RCPT TO:<1@clear.example>"))
		c.Want("250", c.Cmd("RCPT TO:<2@clear.example>"))
		c.Want("452 4.5.3", c.Cmd("RCPT TO:<3@clear.example>"))
	})
}

// offerTLS makes the listener offer STARTTLS.
func offerTLS(t *testing.T) func(*config.Config) {
	certs := testcerts.Make(t)
	return func(c *config.Config) {
		l := &c.Listeners[0]
		l.TLS, l.TLSCert, l.TLSKey = config.TLSOpportunistic, certs.Cert, certs.Key
	}
}

// A transaction that has begun in clear does not go on in TLS.
func TestSTARTTLSForgets(t *testing.T) {
	mailtest.NoLeaks(t)
	hop, _, c := mailtest.Start(t, mailer.DirectionEncrypt, offerTLS(t))
	c.Want("250", c.Cmd("MAIL FROM:<alice@a.example>"))
	c.Want("250", c.Cmd("RCPT TO:<b@b.example>"))
	c.StartTLS()
	c.Want("501", c.Cmd("EHLO"))
	c.Want("503", c.Cmd("RCPT TO:<c@b.example>"))
	c.Want("503", c.Cmd("DATA"))
	c.Want("250", c.Cmd("EHLO x"))
	c.Want("5", c.Cmd("DATA"))
	hop.None()
}

// What a client sends after STARTTLS in clear is not taken for a command in
// TLS, and what was said before is forgotten.
func TestSTARTTLSInjection(t *testing.T) {
	mailtest.NoLeaks(t)
	hop, r, c := mailtest.Start(t, mailer.DirectionEncrypt, offerTLS(t), func(c *config.Config) {
		c.Listeners[0].XForward = c.Listeners[0].Networks
	})
	c.Send("STARTTLS\r\nMAIL FROM:<evil@a.example>\r\n")
	c.Want("554", c.Reply())
	c.Closed()

	c = mailtest.Connect(t, r)
	c.Want("501", c.Cmd("STARTTLS now"))
	c.Want("250", c.Cmd("XFORWARD ADDR=192.0.2.66"))
	c.Want("250", c.Cmd("MAIL FROM:<clear@a.example>"))
	c.Want("250", c.Cmd("RCPT TO:<clear@b.example>"))
	c.StartTLS()
	for _, line := range []string{"MAIL FROM:<a@a.example>", "RCPT TO:<b@b.example>", "DATA"} {
		c.Want("503", c.Cmd(line))
	}
	c.Want("250", c.Cmd("EHLO x"))
	c.Want("503", c.Cmd("DATA"))
	c.Want("503", c.Cmd("STARTTLS"))
	c.Want("250", c.Attempt(mailtest.Text))
	if m := hop.One(); strings.Contains(m.Mail+strings.Join(m.Rcpts, ""), "clear@") {
		t.Error("an envelope from before TLS")
	}
	if strings.Contains(r.Log.String(), "192.0.2.66") {
		t.Error("XFORWARD from before TLS")
	}
	// A failed handshake does not end the relay.
	c = mailtest.Connect(t, r)
	c.Want("220", c.Cmd("STARTTLS"))
	c.Send("this is no TLS\r\n\r\n")
	c.Closed()
}
