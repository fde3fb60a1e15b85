package mailer

import (
	"encoding/base64"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

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

// plain is AUTH PLAIN's response.
func plain(user, password string) string {
	return base64.StdEncoding.EncodeToString([]byte("\x00" + user + "\x00" + password))
}

// Who may send: a relay is never open. "" in want is 250.
func TestWhoMaySend(t *testing.T) {
	certs, users := makeCerts(t), usersFile(t)
	elsewhere := []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	withTLS := func(mode TLSMode) func(*ListenerConfig) {
		return func(l *ListenerConfig) { l.TLS, l.TLSCert, l.TLSKey = mode, certs.cert, certs.key }
	}
	authenticated := func(l *ListenerConfig) {
		withTLS(TLSOpportunistic)(l)
		l.AuthFile, l.Networks = users, anywhere()
	}
	for _, tt := range []struct {
		name    string
		set     func(*ListenerConfig)
		tls     bool
		auth    string // the command, or nothing
		greeted string
		authed  string
		want    string
	}{
		{name: "loopback, by default", set: func(*ListenerConfig) {}},
		{name: "another network", set: func(l *ListenerConfig) { l.Networks = elsewhere }, greeted: "554 5.7.1"},
		{name: "no network", set: func(l *ListenerConfig) { l.Networks = []netip.Prefix{} }, greeted: "554 5.7.1"},
		{name: "another network with TLS", set: func(l *ListenerConfig) { withTLS(TLSRequired)(l); l.Networks = elsewhere }, greeted: "554 5.7.1"},
		{name: "TLS required, in clear", set: withTLS(TLSRequired), want: "530 5.7.0 Must issue a STARTTLS"},
		{name: "TLS required, in TLS", set: withTLS(TLSRequired), tls: true},
		{name: "TLS offered, in clear", set: withTLS(TLSOpportunistic)},
		{name: "TLS offered, in TLS", set: withTLS(TLSOpportunistic), tls: true},
		{name: "AUTH where there is none", set: withTLS(TLSOpportunistic), tls: true, auth: "AUTH PLAIN " + plain("bob", "secret"), authed: "5"},
		{name: "AUTH needed, nothing", set: authenticated, want: "530 5.7.0"},
		{name: "AUTH needed, TLS only", set: authenticated, tls: true, want: "530 5.7.0"},
		{name: "AUTH in clear", set: authenticated, auth: "AUTH PLAIN " + plain("bob", "secret"), authed: "5", want: "530 5.7.0"},
		{name: "AUTH, wrong password", set: authenticated, tls: true, auth: "AUTH PLAIN " + plain("bob", "wrong"), authed: "535", want: "530 5.7.0"},
		{name: "AUTH, no such user", set: authenticated, tls: true, auth: "AUTH PLAIN " + plain("eve", "secret"), authed: "535", want: "530 5.7.0"},
		{name: "AUTH for another", set: authenticated, tls: true, auth: "AUTH PLAIN " + base64.StdEncoding.EncodeToString([]byte("eve\x00bob\x00secret")), authed: "535", want: "530 5.7.0"},
		{name: "AUTH LOGIN", set: authenticated, tls: true, auth: "AUTH LOGIN", authed: "504", want: "530 5.7.0"},
		{name: "AUTH, no base64", set: authenticated, tls: true, auth: "AUTH PLAIN !!", authed: "501 5.5.2", want: "530 5.7.0"},
		{name: "AUTH in TLS", set: authenticated, tls: true, auth: "AUTH PLAIN " + plain("bob", "secret"), authed: "235"},
		{name: "AUTH, but another network", set: func(l *ListenerConfig) { authenticated(l); l.Networks = elsewhere }, greeted: "554 5.7.1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			noLeaks(t)
			hop := startHop(t)
			r := startRelay(t, DirectionEncrypt, hop.addr(), func(c *Config) { tt.set(&c.Listeners[0]) })
			c := dial(t, r.addr)
			if tt.greeted != "" {
				c.want(tt.greeted, c.reply())
				c.closed()
				return
			}
			c.want("220", c.reply())
			hello := c.want("250", c.cmd("EHLO x"))
			if strings.Contains(hello, "AUTH") {
				t.Error("AUTH is offered in clear")
			}
			if tt.tls {
				c.startTLS()
				if hello = c.want("250", c.cmd("EHLO x")); strings.Contains(hello, "STARTTLS") {
					t.Error("STARTTLS is offered in TLS")
				}
				if strings.Contains(hello, "AUTH PLAIN") != (r.cfg.Listeners[0].AuthFile != "") {
					t.Error("AUTH:", hello)
				}
			}
			if tt.auth != "" {
				c.want(tt.authed, c.cmd(tt.auth))
			}
			want := tt.want
			if want == "" {
				want = "250"
			}
			reply := c.want(want, c.cmd("MAIL FROM:<a@a.example>"))
			if strings.HasPrefix(reply, "250") {
				c.want("250", c.cmd("RCPT TO:<b@anywhere.example>"))
				c.want("354", c.cmd("DATA"))
				c.send(stuffed(testMessage))
				c.want("250", c.reply())
				hop.one()
				return
			}
			// No other way around.
			for _, line := range []string{"RCPT TO:<b@b.example>", "DATA", "BDAT 5 LAST\r\nhello"} {
				c.want("5", c.cmd(line))
			}
			hop.none()
		})
	}
}

// A unix socket is guarded by its file; networks say nothing there.
func TestUnixSockets(t *testing.T) {
	noLeaks(t)
	dir := t.TempDir()
	hop := startHop(t, func(h *testHop) {
		l, err := net.Listen("unix", filepath.Join(dir, "hop"))
		if err != nil {
			t.Fatal(err)
		}
		h.l = l
	})
	socket := filepath.Join(dir, "relay")
	set := func(c *Config) {
		c.Listeners[0].Address, c.Listeners[0].Networks = "unix:"+socket, nil
		c.Listeners[0].XForward = anywhere()
	}
	// A file that a killed relay left behind is replaced; one in use is not.
	left, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	left.(*net.UnixListener).SetUnlinkOnClose(false)
	cfg := relayConfig(DirectionEncrypt, hop.addr())
	set(cfg)
	second, err := NewRelay(cfg, newTestKM(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Listen(t.Context()); err == nil {
		t.Error("two listen at one socket")
	}
	_ = left.Close()
	r := startRelay(t, DirectionEncrypt, hop.addr(), set)
	if info, err := os.Stat(socket); err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("mode %v, %v; a mail system in the relay's group must be able to connect", info.Mode(), err)
	}
	if err := second.Listen(t.Context()); err == nil {
		t.Error("two listen at one socket")
	}
	c := connect(t, r)
	c.want("550 5.7.1", c.cmd("XFORWARD ADDR=192.0.2.1")) // nobody knows who it is
	c.want("250", attempt(c, testMessage))
	if got := open(t, r.km, hop.one().data); got != testMessage {
		t.Errorf("%q", got)
	}
	_ = r.stop()
	if _, err := os.Stat(socket); err == nil {
		t.Error("the socket is still there")
	}
	// A file that is no socket is left alone.
	if err := os.WriteFile(socket, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := second.Listen(t.Context()); err == nil {
		t.Error("a file was replaced")
	}
}

// What a client sends behind STARTTLS in clear is not taken for a command in
// TLS, and what was said before is forgotten.
func TestSTARTTLSInjection(t *testing.T) {
	noLeaks(t)
	certs := makeCerts(t)
	hop := startHop(t)
	r := startRelay(t, DirectionEncrypt, hop.addr(), func(c *Config) {
		l := &c.Listeners[0]
		l.TLS, l.TLSCert, l.TLSKey, l.XForward = TLSOpportunistic, certs.cert, certs.key, l.Networks
	})
	c := connect(t, r)
	c.send("STARTTLS\r\nMAIL FROM:<evil@a.example>\r\n")
	c.want("554", c.reply())
	c.closed()

	c = connect(t, r)
	c.want("501", c.cmd("STARTTLS now"))
	c.want("250", c.cmd("XFORWARD ADDR=192.0.2.66"))
	c.want("250", c.cmd("MAIL FROM:<clear@a.example>"))
	c.want("250", c.cmd("RCPT TO:<clear@b.example>"))
	c.startTLS()
	for _, line := range []string{"MAIL FROM:<a@a.example>", "RCPT TO:<b@b.example>", "DATA"} {
		c.want("503", c.cmd(line))
	}
	c.want("250", c.cmd("EHLO x"))
	c.want("503", c.cmd("DATA"))
	c.want("503", c.cmd("STARTTLS"))
	c.want("250", attempt(c, testMessage))
	if m := hop.one(); strings.Contains(m.mail+strings.Join(m.rcpts, ""), "clear@") {
		t.Error("an envelope from before TLS")
	}
	if strings.Contains(r.log.String(), "192.0.2.66") {
		t.Error("XFORWARD from before TLS")
	}
	// No TLS is no end.
	c = connect(t, r)
	c.want("220", c.cmd("STARTTLS"))
	c.send("this is no TLS\r\n\r\n")
	c.closed()
}

func TestXFORWARD(t *testing.T) {
	noLeaks(t)
	hop := startHop(t)
	r := startRelay(t, DirectionEncrypt, hop.addr())
	c := connect(t, r)
	if strings.Contains(c.want("250", c.cmd("EHLO x")), "XFORWARD") {
		t.Error("it is offered to whom it is not allowed")
	}
	c.want("550 5.7.1", c.cmd("XFORWARD ADDR=192.0.2.1"))

	r = startRelay(t, DirectionEncrypt, hop.addr(), func(c *Config) { c.Listeners[0].XForward = c.Listeners[0].Networks })
	c = connect(t, r)
	if !strings.Contains(c.want("250", c.cmd("EHLO x")), "250-XFORWARD NAME ADDR") {
		t.Error("it is not offered")
	}
	c.want("250", c.cmd("XFORWARD NAME=mail.x.example ADDR=192.0.2.1 IDENT=QID1"))
	c.want("250", c.cmd("XFORWARD IDENT=\xff\xfe\"level=ERROR PROTO=[UNAVAILABLE]"))
	for _, bad := range []string{"XFORWARD EVIL=1", "XFORWARD ADDR", "XFORWARD ADDR=" + strings.Repeat("1", 256)} {
		c.want("501", c.cmd(bad))
	}
	c.want("50", c.cmd("XFORWARD ADDR=\x1b[31m"))
	c.want("250", attempt(c, testMessage))
	log := r.log.String()
	if !strings.Contains(log, "client_addr=192.0.2.1") || strings.Contains(log, "\nlevel") || strings.Contains(log, "\x1b") || strings.Contains(log, "\xff") {
		t.Error("the log")
	}
}

// Commands that the front refuses, without end.
func TestManyBadCommands(t *testing.T) {
	noLeaks(t)
	hop := startHop(t)
	r := startRelay(t, DirectionEncrypt, hop.addr())
	for _, line := range []string{"XFORWARD X=1", "STARTTLS x", "\x01", "FOO", "BDAT 1"} {
		c := connect(t, r)
		for range 20 {
			c.send(line + "\r\n")
		}
		c.closed()
	}
	c := connect(t, r)
	c.want("500", c.cmd("NOOP "+strings.Repeat("x", 3000)))
	c.want("500", c.cmd("NOOP "+strings.Repeat("x", 30_000)))
	c.want("250", c.cmd("NOOP"))
}

func TestConnectionLimits(t *testing.T) {
	noLeaks(t)
	hop := startHop(t)
	for name, set := range map[string]func(*Config){
		"421 4.3.2": func(c *Config) { c.Limits.Connections = 3 },
		"421 4.7.0": func(c *Config) { c.Limits.ConnectionsPerClient = 3 },
	} {
		r := startRelay(t, DirectionEncrypt, hop.addr(), set)
		var open []*testClient
		for range 3 {
			open = append(open, connect(t, r))
		}
		c := dial(t, r.addr)
		c.want(name, c.reply())
		c.closed()
		open[0].want("221", open[0].cmd("QUIT"))
		open[0].closed()
		_ = open[1].conn.Close()
		for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
			c := dial(t, r.addr)
			if strings.HasPrefix(c.reply(), "220") {
				break
			}
			if time.Now().After(end) {
				t.Fatal("places are not given back")
			}
		}
	}
}

func TestMessageLimits(t *testing.T) {
	directions(t, func(t *testing.T, d Direction) {
		noLeaks(t)
		hop := startHop(t)
		r := startRelay(t, d, hop.addr(), func(c *Config) {
			c.Limits.MessageSize, c.Limits.HeaderSize, c.Limits.LineLength = 5000, 2000, 500
			c.Limits.Received, c.Limits.Recipients = 3, 2
		})
		header := "From: x@x.example\r\n"
		send := func(message string) string {
			c := connect(t, r)
			defer c.conn.Close()
			return c.mail(message, "x@x.example", "y@clear.example")
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
			hop.forget()
			if reply := send(tt.message); !strings.HasPrefix(reply, tt.want) {
				t.Errorf("%s: %s", tt.name, reply)
			}
			if got := len(hop.got()); (got == 1) != (tt.want == "250") {
				t.Errorf("%s: %d messages", tt.name, got)
			}
		}
		c := connect(t, r)
		c.want("552 5.3.4", c.cmd("MAIL FROM:<x@x.example> SIZE=5001"))
		c.want("250", c.cmd("MAIL FROM:<x@x.example> SIZE=5000"))
		c.want("250", c.cmd("RCPT TO:<1@clear.example>"))
		c.want("250", c.cmd("RCPT TO:<2@clear.example>"))
		c.want("452 4.5.3", c.cmd("RCPT TO:<3@clear.example>"))
	})
}
