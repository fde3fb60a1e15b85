package mailer

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// What only informs is passed on as it came, and refuses no mail (RFC 3461 §4.2,
// §4.4, §5.2.1).
func TestInformingParameters(t *testing.T) {
	directions(t, func(t *testing.T, d Direction) {
		noLeaks(t)
		hop := startHop(t)
		r := startRelay(t, d, hop.addr())
		for _, value := range []string{
			"rfc822;bob@b.example", "RFC822;bob+2Btag@b.example", "x400;/C+3DGB/A+3DX/S+3DBob/", "unknown;bob", "X-LOCAL;bob",
			"rfc822;M+FCller@b.example", "rfc822;b+C3+B3b@b.example", `utf-8;b\x{F3}b@b.example`, "rfc822;\"a+20b\"@c",
		} {
			c := connect(t, r)
			c.want("250", c.cmd("MAIL FROM:<alice@a.example> ENVID=QQ314159+3B+FF"))
			c.want("250", c.cmd("RCPT TO:<bob@clear.example> ORCPT="+value))
			c.want("250", c.cmd("RSET"))
			if heard := hop.commands(); !strings.Contains(heard, " ORCPT="+value) || !strings.Contains(heard, " ENVID=QQ314159+3B+FF") && !strings.Contains(heard, " ENVID=QQ314159;+FF") {
				t.Errorf("ORCPT=%s: the next hop heard\n%s", value, heard)
			}
			hop.forget()
		}
		// What can't be read at all refuses no mail either.
		for _, value := range []string{"", ";", "rfc822;", "bob", ";bob", "rfc822;a+", "rfc822;+ZZ", `utf-8;\x{`} {
			c := connect(t, r)
			c.want("250", c.cmd("MAIL FROM:<alice@a.example> ENVID="+strings.Trim(value, ";")))
			c.want("250", c.cmd("RCPT TO:<bob@clear.example> ORCPT="+value))
		}
	})
}

// <postmaster> needs no domain (RFC 5321 §4.5.1), and no other address does
// without.
func TestPostmaster(t *testing.T) {
	directions(t, func(t *testing.T, d Direction) {
		noLeaks(t)
		hop := startHop(t)
		r := startRelay(t, d, hop.addr())
		c := connect(t, r)
		for _, to := range []string{"postmaster", "Postmaster", "POSTMASTER", "postmaster@b.example"} {
			c.want("250", c.mail(messageFor(t, d, r.km), "alice@a.example", to))
			if got := hop.one().rcpts[0]; got != "RCPT TO:<"+to+">" {
				t.Errorf("the next hop heard %q", got)
			}
			hop.forget()
		}
		c.want("250", c.cmd("MAIL FROM:<postmaster>"))
		c.want("5", c.cmd("RCPT TO:<root>"))
		c.want("5", c.cmd(`RCPT TO:<"bob@b.example">`))
		c.want("5", c.cmd("RCPT TO:<>"))
	})
}

// Blanks after a command do not count (RFC 5321 §4.1.1).
func TestTrailingBlanks(t *testing.T) {
	directions(t, func(t *testing.T, d Direction) {
		noLeaks(t)
		hop := startHop(t)
		r := startRelay(t, d, hop.addr())
		c := dial(t, r.addr)
		c.want("220", c.reply())
		for command, want := range map[string]string{"NOOP ": "250", "RSET\t": "250", "VRFY x  ": "252", "HELP ": "214 2.0.0", "help me": "214 2.0.0", "EXPN list": "502 5.5.1", "TURN": "502 5.5.1"} {
			c.want(want, c.cmd(command))
		}
		c.want("250", c.cmd("EHLO c.example \t"))
		c.want("250", c.cmd("MAIL FROM:<alice@a.example>   "))
		c.want("250", c.cmd("RCPT TO:<bob@b.example>\t "))
		c.want("354", c.cmd("DATA  "))
		c.send(stuffed(messageFor(t, d, r.km)))
		c.want("250", c.reply())
		c.want("221", c.cmd("QUIT "))
		hop.one()
	})
}

// Codes of what a client may get wrong, with an enhanced code on each line:
// RFC 1870 §3, RFC 5321 §4.1.1.11, RFC 2034 §4.
func TestReplyCodes(t *testing.T) {
	directions(t, func(t *testing.T, d Direction) {
		noLeaks(t)
		r := startRelay(t, d, startHop(t).addr())
		for command, want := range map[string]string{
			"MAIL FROM:<a@x.example> SIZE=5000000000":            "552 5.3.4",
			"MAIL FROM:<a@x.example> SIZE=99999999999999999999":  "552 5.3.4",
			"MAIL FROM:<a@x.example> SIZE=18446744073709551616":  "552 5.3.4",
			"MAIL FROM:<a@x.example> SIZE=00000000000000000100":  "250",
			"MAIL FROM:<a@x.example> size=100":                   "250",
			"MAIL FROM:<a@x.example> SIZE=100000000000000000000": "501 5.5.4", // 21 digits
			"MAIL FROM:<a@x.example> SIZE=-1":                    "501 5.5.4",
			"MAIL FROM:<a@x.example> SIZE":                       "501 5.5.4",
			"MAIL FROM:<a@x.example> SIZE=1 SIZE=1":              "501 5.5.4",
			"MAIL FROM:<a@x.example> X-NEW=1":                    "555 5.5.4",
			"MAIL FROM:<a@x.example> BODY=BINARYMIME":            "555 5.5.4",
			"MAIL FROM:<a@x.example> body=8bitmime":              "250",
			"MAIL FROM:<a@x.example> RET=SOME":                   "501 5.5.4",
			"MAIL FROM:<a@x.example> MT-PRIORITY=3":              "555 5.5.4",
			"RCPT TO:<b@b.example> NOTIFY=NEVER,FAILURE":         "501 5.5.4",
			"RCPT TO:<b@b.example> X-NEW":                        "555 5.5.4",
			"RCPT TO:<b@b.example> BY=100;R":                     "555 5.5.4",
			"DATA":                                               "503 5.5.1",
			"DATA now":                                           "501 5.5.4",
			"MAIL FROM:<a@x.example":                             "501 5.5.2",
			"FOO":                                                "500 5.5.2",
		} {
			c := connect(t, r)
			if strings.HasPrefix(command, "RCPT") {
				c.want("250", c.cmd("MAIL FROM:<a@x.example>"))
			}
			if got := c.cmd(command); !strings.HasPrefix(got, want) {
				t.Errorf("%s: %q, want %s", command, got, want)
			}
			_ = c.conn.Close()
		}
		c := dial(t, r.addr)
		c.want("220", c.reply())
		for _, command := range []string{"MAIL FROM:<a@x.example>", "RCPT TO:<b@b.example>", "DATA", "AUTH PLAIN"} {
			c.want("503 5.5.1", c.cmd(command))
		}
	})
	for _, reply := range []string{"550 5.1.1", "550-5.7.1 Blocked\r\n550-see the site\r\n550 5.7.1 end", "550-Blocked\r\n550 5.7.1 end", "550 no code"} {
		hop := startHop(t, answering("RCPT", reply))
		c := connect(t, startRelay(t, DirectionEncrypt, hop.addr()))
		c.want("250", c.cmd("MAIL FROM:<a@x.example>"))
		got := c.cmd("RCPT TO:<b@b.example>")
		for line := range strings.SplitSeq(got, "\r\n") {
			if len(line) < 9 || line[:3] != "550" || line[4:6] != "5." || strings.Contains(reply, "5.7.1") && line[4:9] != "5.7.1" || strings.Contains(reply, "5.1.1") && line[4:9] != "5.1.1" {
				t.Errorf("%q was passed on as %q", reply, got)
			}
		}
	}
}

// The trace field names the protocol that was used (RFC 3848).
func TestProtocolInReceived(t *testing.T) {
	certs := makeCerts(t)
	for _, tt := range []struct {
		hello string
		tls   bool
		want  string
	}{{"HELO", false, "SMTP"}, {"EHLO", false, "ESMTP"}, {"EHLO", true, "ESMTPS"}} {
		hop := startHop(t)
		r := startRelay(t, DirectionEncrypt, hop.addr(), func(c *Config) {
			l := &c.Listeners[0]
			l.TLS, l.TLSCert, l.TLSKey = TLSOpportunistic, certs.cert, certs.key
		})
		c := dial(t, r.addr)
		c.want("220", c.reply())
		if tt.tls {
			c.want("250", c.cmd("EHLO c.example"))
			c.startTLS()
		}
		c.want("250", c.cmd(tt.hello+" old.example"))
		c.want("250", c.mail(testMessage, "alice@a.example", "bob@b.example"))
		if got := hop.one().data; !strings.Contains(got, " with "+tt.want+";") {
			t.Errorf("%s, TLS %v: %.200q, want %s", tt.hello, tt.tls, got, tt.want)
		}
	}
}

// A local part that needs its quotes keeps them (RFC 5321 §4.1.2).
func TestQuotedLocalParts(t *testing.T) {
	directions(t, func(t *testing.T, d Direction) {
		hop := startHop(t)
		r := startRelay(t, d, hop.addr())
		c := connect(t, r)
		for _, address := range []string{`"a..b"`, `"ab."`, `".ab"`, `"o d"`, `"a\"b"`, `"a@b"`, `"a>b"`, `"a,b"`, `"()"`, `"\\"`, "plain.dot", "o'neil"} {
			path := "<" + address + "@b.example>"
			c.want("250", c.cmd("MAIL FROM:"+path))
			c.want("250", c.cmd("RCPT TO:"+path))
			c.want("250", c.cmd("RSET"))
			if heard := hop.commands(); !strings.Contains(heard, "MAIL FROM:"+path) || !strings.Contains(heard, "RCPT TO:"+path) {
				t.Errorf("%s: the next hop heard\n%s", path, heard)
			}
			hop.forget()
		}
	})
}

// A message that ends with CR CR LF has come to its end, and is refused at once as
// any other with a CR alone (RFC 5321 §2.3.8, §4.1.1.4).
func TestCRBeforeTheEnd(t *testing.T) {
	directions(t, func(t *testing.T, d Direction) {
		noLeaks(t)
		hop := startHop(t)
		r := startRelay(t, d, hop.addr())
		for _, body := range []string{"x\ry\r\n", "x\r\r\n", "x\r\r\r\n", "\r\r\n", "x\r\n.\rx\r\n", "x\r\n.\r\r\n", "x\n\r\n", "x\r\n\n\r\n", "\x00\r\r\n"} {
			c := connect(t, r)
			c.begin("alice@a.example", "bob@b.example")
			c.send("From: a@a.example\r\nTo: b@b.example\r\n\r\n" + body + ".\r\n")
			if got := c.reply(); !strings.HasPrefix(got, "550 5.6.0") {
				t.Errorf("%q: %q", body, got)
			}
			c.want("250", c.cmd("NOOP"))
			_ = c.conn.Close()
		}
		hop.none()
	})
}

// A client that has gone quiet is told so, between commands and within DATA.
func TestQuietClient(t *testing.T) {
	noLeaks(t)
	r := startRelay(t, DirectionDecrypt, startHop(t).addr(), func(c *Config) {
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
		c := dial(t, r.addr)
		c.send(send)
		last := ""
		for reply := c.reply(); reply != ""; reply = c.reply() {
			last = reply
		}
		if !strings.HasPrefix(last, "421 4.4.2") {
			t.Errorf("waiting for %s ended with %q, want 421", name, last)
		}
	}
}

// A client that sends nonsense is left, one that makes a mistake now and then is
// not.
func TestMistakes(t *testing.T) {
	noLeaks(t)
	r := startRelay(t, DirectionDecrypt, startHop(t).addr())
	c := connect(t, r)
	for i := range 50 {
		c.want("500", c.cmd(fmt.Sprint("FOO", i)))
		if i%5 == 0 {
			c.want("250", c.cmd("NOOP"))
		}
	}
	for i := range 30 {
		if got := c.cmd(fmt.Sprint("FOO", i)); strings.Contains(got, "421 4.7.0") {
			return
		} else if got == "" {
			break
		}
	}
	if got := c.reply(); !strings.HasPrefix(got, "421") && got != "" {
		t.Errorf("a client that sends nonsense goes on: %q", got)
	}
	c.closed()
}

// Parameters that only inform, and would be too long or can't be written to the next
// hop, are left out or encoded, and refuse no mail.
func TestOddDSNParameters(t *testing.T) {
	for rcpt, want := range map[string]string{
		"ORCPT=rfc822;" + strings.Repeat("x", 480):              "ORCPT=rfc822;" + strings.Repeat("x", 480),
		"ORCPT=rfc822;" + strings.Repeat("x", 600):              "",
		"ORCPT=rfc822;" + strings.Repeat("\xe9", 300):           "", // three times as long as it is written
		"ORCPT=rfc822;" + strings.Repeat("\xe9", 1900) + "RSET": "",
		"ORCPT=a=<b>\xff@;x":                                    "ORCPT=a+3D<b>+FF@;x",
		"ORCPT=" + strings.Repeat("t", 65) + ";x":               "ORCPT=" + strings.Repeat("t", 65) + ";x",
		"NOTIFY=success,DELAY":                                  "NOTIFY=SUCCESS,DELAY",
		"NOTIFY=FAILURE ORCPT=x-400;c+3Dx":                      "NOTIFY=FAILURE ORCPT=x-400;c+3Dx",
	} {
		hop := startHop(t)
		r := startRelay(t, DirectionEncrypt, hop.addr())
		c := connect(t, r)
		c.want("250", c.cmd("MAIL FROM:<x@x.example> ENVID="+strings.Repeat("e", 101)))
		c.want("250", c.cmd("RCPT TO:<b@clear.example> "+rcpt))
		if want != "" {
			want = " " + want
		}
		if commands := hop.commands(); !strings.HasSuffix(commands, "RCPT TO:<b@clear.example>"+want) || strings.Contains(commands, "ENVID") {
			t.Errorf("%.80s: the next hop gets %.200q, want %.80q", rcpt, commands, want)
		}
	}
	r := startRelay(t, DirectionDecrypt, startHop(t).addr())
	c := connect(t, r)
	c.want("250", c.cmd("MAIL FROM:<x@x.example>"))
	for _, notify := range []string{"DELAY,DELAY", "SUCCESS,FAILURE,success", "NEVER,NEVER", "DELAY" + strings.Repeat(",DELAY", 300), ",", ""} {
		c.want("501 5.5.4", c.cmd("RCPT TO:<b@b.example> NOTIFY="+notify))
	}
}

// A domain that IDNA refuses is nobody's: no rule may be taken for it that another
// program's reading would not have.
func TestDomainsThatIDNARefuses(t *testing.T) {
	r := startRelay(t, DirectionEncrypt, startHop(t).addr())
	c := connect(t, r)
	c.want("250", c.cmd("MAIL FROM:<x@x.example> SMTPUTF8"))
	for _, domain := range []string{"b.exam\u200dple", "b\u2024example", "b.ex\u202eample", "\u0301b.example", "b.\ufffdexample"} {
		c.want("553 5.1.3", c.cmd("RCPT TO:<u@"+domain+">"))
	}
	for _, domain := range []string{"b\u3002example", "\uff42.example", "b\u00fccher.example", "b_c.example"} {
		c.want("250", c.cmd("RCPT TO:<u@"+domain+">"))
	}
}
