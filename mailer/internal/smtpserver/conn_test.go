package smtpserver_test

import (
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/mailer"
	"github.com/qkdmail/qkdmail/mailer/internal/mailtest"
	"github.com/qkdmail/qkdmail/mailer/relay/config"
)

// A client that has gone quiet is cut off, between commands and within DATA.
func TestQuietClient(t *testing.T) {
	mailtest.NoLeaks(t)
	r := mailtest.StartRelay(t, mailer.DirectionDecrypt, mailtest.StartHop(t).Addr(), func(c *config.Config) {
		c.Timeouts.Idle, c.Timeouts.DataIdle = 100*time.Millisecond, 100*time.Millisecond
	})
	for name, send := range map[string]string{
		"a command":                    "EHLO c.example\r\nMAIL FR",
		"DATA":                         "EHLO c.example\r\nMAIL FROM:<a@x.example>\r\nRCPT TO:<b@b.example>\r\nDATA\r\nSubject: x\r\n\r\nbody",
		"an end that is none":          "EHLO c.example\r\nMAIL FROM:<a@x.example>\r\nRCPT TO:<b@b.example>\r\nDATA\r\nSubject: x\r\n\r\nbody\n.\n",
		"a message that was refused":   "EHLO c.example\r\nMAIL FROM:<a@x.example>\r\nRCPT TO:<b@b.example>\r\nDATA\r\nSubject: x\r\n\r\nbo\x00dy\r\n",
		"half a message, after NOOP":   "EHLO c.example\r\nNOOP\r\nMAIL FROM:<a@x.example>\r\nRCPT TO:<b@b.example>\r\nDATA\r\nSub",
		"the very beginning":           "",
		"a line that is far too long ": strings.Repeat("x", 10_000),
	} {
		c := mailtest.Dial(t, r.Addr)
		c.Send(send)
		last := ""
		for reply := c.Reply(); reply != ""; reply = c.Reply() {
			last = reply
		}
		if !strings.HasPrefix(last, "421 4.4.2") {
			t.Errorf("waiting for %s ended with %q, want 421", name, last)
		}
	}
}

func TestHalfClosed(t *testing.T) {
	mailtest.Directions(t, func(t *testing.T, d mailer.Direction) {
		hop := mailtest.StartHop(t, func(h *mailtest.Hop) { h.Late = 5 * time.Millisecond })
		r := mailtest.StartRelay(t, d, hop.Addr())
		c := mailtest.Dial(t, r.Addr)
		c.Send("EHLO c.example\r\nMAIL FROM:<alice@a.example>\r\nRCPT TO:<bob@b.example>\r\nDATA\r\n" + mailtest.Stuffed(mailtest.MessageFor(t, d, r.KM)) + "NOOP\r\nQUIT\r\n")
		_ = c.Conn.(*net.TCPConn).CloseWrite()
		all, _ := io.ReadAll(c.In)
		if !strings.Contains(string(all), "354") || strings.Count(string(all), "\r\n2") < 5 || !strings.Contains(string(all), "\r\n221") {
			t.Errorf("%s", all)
		}
		hop.One()
	})
}

// DATA without an accepted recipient is refused here, and the next hop hears nothing of
// it.
func TestDataWithoutRecipients(t *testing.T) {
	mailtest.Directions(t, func(t *testing.T, d mailer.Direction) {
		for next, last := range map[string]string{
			"RSET": "250", "RCPT TO:<two@b.example>": "250", "QUIT": "221", "MAIL FROM:<alice@a.example>": "503",
		} {
			hop := mailtest.StartHop(t, mailtest.Answering("RCPT TO:<one", "550 5.1.1 no"))
			r := mailtest.StartRelay(t, d, hop.Addr())
			c := mailtest.Connect(t, r)
			c.Send("MAIL FROM:<alice@a.example>\r\nRCPT TO:<one@b.example>\r\nDATA\r\n" + next + "\r\n")
			for _, want := range []string{"250", "550 5.1.1", "503 5.5.1", last} {
				c.Want(want, c.Reply())
			}
			_ = r.Stop()
			hop.None()
			if strings.Contains(hop.Commands(), "DATA") {
				t.Errorf("the next hop heard %q", hop.Commands())
			}
		}
	})
}

// The client goes away, or is too slow: nothing is delivered, the connection
// is closed, and what comes later is not taken for commands.
func TestClientStops(t *testing.T) {
	mailtest.Directions(t, func(t *testing.T, d mailer.Direction) {
		for name, part := range map[string]int{"in the header": 20, "in the body": -40, "before the dot": 0} {
			for _, how := range []string{"closes", "stops"} {
				t.Run(name+" "+how, func(t *testing.T) {
					mailtest.NoLeaks(t)
					hop := mailtest.StartHop(t)
					r := mailtest.StartRelay(t, d, hop.Addr(), func(c *config.Config) { c.Timeouts.DataIdle = 100 * time.Millisecond })
					message := mailtest.MessageFor(t, d, r.KM)
					if part <= 0 {
						part += len(message)
					}
					c := mailtest.Connect(t, r)
					c.Begin("alice@a.example", "bob@b.example")
					c.Send(message[:part])
					if how == "closes" {
						_ = c.Conn.Close()
					} else {
						c.Closed()
					}
					if err := r.Stop(); err != nil {
						t.Error(err)
					}
					hop.None()
					if log := r.Log.String(); !strings.Contains(log, "msg=refused") || !strings.Contains(log, "connection lost") {
						t.Error("no reason in the log")
					}
				})
			}
		}
	})
}

// A client that sends very slowly is cut off.
func TestClientSlow(t *testing.T) {
	mailtest.NoLeaks(t)
	hop, _, c := mailtest.Start(t, mailer.DirectionEncrypt, func(c *config.Config) {
		c.Timeouts.DataIdle, c.Timeouts.MinRate = 100*time.Millisecond, 1000
	})
	c.Begin("alice@a.example", "bob@b.example")
	go func() {
		for {
			if _, err := c.Conn.Write([]byte("a\r\n")); err != nil {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
	}()
	c.Closed()
	hop.None()
}

// A message that was refused early keeps coming; if its client then stops, the rest must
// not be taken for commands.
func TestClientStopsAfterRefusal(t *testing.T) {
	mailtest.NoLeaks(t)
	hop, _, c := mailtest.Start(t, mailer.DirectionEncrypt, func(c *config.Config) { c.Timeouts.DataIdle = 100 * time.Millisecond })
	c.Begin("alice@a.example", "bob@b.example")
	c.Send("bare\nline end\r\n\r\n")
	time.Sleep(300 * time.Millisecond)
	c.Send("MAIL FROM:<evil@a.example>\r\nRCPT TO:<victim@b.example>\r\nDATA\r\n\r\n.\r\n")
	c.Closed()
	if n := strings.Count(hop.Commands(), "evil"); n > 0 {
		t.Error("a line of DATA became a command")
	}
	hop.None()
}

func TestIdleClient(t *testing.T) {
	mailtest.NoLeaks(t)
	_, _, c := mailtest.Start(t, mailer.DirectionEncrypt, func(c *config.Config) { c.Timeouts.Idle = 100 * time.Millisecond })
	c.Want("421 4.4.2", c.Reply())
	c.Closed()
}

// A message that ends with CR CR LF has ended, and is refused at once like any other with
// a bare CR (RFC 5321 §2.3.8, §4.1.1.4).
func TestCRBeforeTheEnd(t *testing.T) {
	mailtest.Directions(t, func(t *testing.T, d mailer.Direction) {
		mailtest.NoLeaks(t)
		hop := mailtest.StartHop(t)
		r := mailtest.StartRelay(t, d, hop.Addr())
		for _, body := range []string{"x\ry\r\n", "x\r\r\n", "x\r\r\r\n", "\r\r\n", "x\r\n.\rx\r\n", "x\r\n.\r\r\n", "x\n\r\n", "x\r\n\n\r\n", "\x00\r\r\n"} {
			c := mailtest.Connect(t, r)
			c.Begin("alice@a.example", "bob@b.example")
			c.Send("From: a@a.example\r\nTo: b@b.example\r\n\r\n" + body + ".\r\n")
			if got := c.Reply(); !strings.HasPrefix(got, "550 5.6.0") {
				t.Errorf("%q: %q", body, got)
			}
			c.Want("250", c.Cmd("NOOP"))
			_ = c.Conn.Close()
		}
		hop.None()
	})
}

// A CR after a dot at the start of a line is bare too; go-smtp drops it.
func TestCRBehindDot(t *testing.T) {
	mailtest.NoLeaks(t)
	hop := mailtest.StartHop(t)
	r := mailtest.StartRelay(t, mailer.DirectionEncrypt, hop.Addr())
	for _, odd := range []string{".\rX\r\n", ".\r\r\nMAIL FROM:<x@x.example>\r\n"} {
		c := mailtest.Connect(t, r)
		c.Want("250", c.Cmd("MAIL FROM:<alice@a.example>"))
		c.Want("250", c.Cmd("RCPT TO:<b@clear.example>"))
		c.Want("354", c.Cmd("DATA"))
		c.Send(mailtest.Text + odd + "\r\n.\r\n")
		c.Want("550 5.6.0", c.Reply())
		c.Want("250", c.Cmd("NOOP"))
	}
	hop.None()
}

// FuzzClient sends anything to an encrypting and a decrypting relay: they do not panic,
// and a message comes to the next hop only if it was sent with MAIL, RCPT and DATA, up to
// its end.
func FuzzClient(f *testing.F) {
	for _, seed := range []string{
		"EHLO x\r\nMAIL FROM:<a@a.example>\r\nRCPT TO:<b@clear.example>\r\nDATA\r\nSubject: x\r\n\r\nbody\r\n.\r\nQUIT\r\n",
		"EHLO x\r\nSTARTTLS\r\nXFORWARD ADDR=1\r\nBDAT 3 LAST\r\nabc",
		"MAIL FROM:<a@a.example>\r\nMAIL FROM:<b@b.example>\r\nRSET\r\nNOOP\r\nVRFY x\r\nAUTH PLAIN =\r\n",
		"EHLO x\nMAIL FROM:<\"a@b> \"@a.example> SIZE=1 BODY=8BITMIME RET=HDRS ENVID=+0A\nRCPT TO:<b@b.example> NOTIFY=NEVER\nDATA\n.\n\r\n.\r\n",
		"\x00\r\r\n\xff\xfe \r\n" + strings.Repeat("x", 3000) + "\r\n",
	} {
		f.Add([]byte(seed), uint8(5))
	}
	hop := mailtest.StartHop(f)
	encrypt := mailtest.StartRelay(f, mailer.DirectionEncrypt, hop.Addr())
	decrypt := mailtest.StartRelay(f, mailer.DirectionDecrypt, hop.Addr())
	f.Fuzz(func(t *testing.T, in []byte, size uint8) {
		for _, r := range []*mailtest.Relay{encrypt, decrypt} {
			conn, err := net.Dial("tcp", r.Addr.String())
			if err != nil {
				t.Fatal(err)
			}
			_ = conn.SetDeadline(time.Now().Add(mailtest.Patience))
			go func() {
				for rest := in; len(rest) > 0; {
					n := min(len(rest), 1+int(size)*16)
					if _, err := conn.Write(rest[:n]); err != nil {
						return
					}
					rest = rest[n:]
				}
				_ = conn.(*net.TCPConn).CloseWrite()
			}()
			if _, err := io.Copy(io.Discard, conn); err != nil {
				if ne, ok := err.(net.Error); ok && ne.Timeout() {
					t.Fatal("the session does not end")
				}
			}
			_ = conn.Close()
			if strings.Contains(r.Log.String(), "panic") {
				t.Fatal(r.Log)
			}
		}
		upper := strings.ToUpper(string(in))
		for _, m := range hop.Got() {
			if strings.ContainsAny(strings.ReplaceAll(m.Raw, "\r\n", ""), "\r\n\x00") {
				t.Fatalf("line ends at the next hop: %q", m.Raw)
			}
			if !strings.Contains(upper, "MAIL") || !strings.Contains(upper, "RCPT") || !strings.Contains(upper, "DATA") || !strings.Contains(upper, ".\r\n") {
				t.Fatalf("%q made a message: %q", in, m.Raw)
			}
		}
		hop.Forget()
	})
}
