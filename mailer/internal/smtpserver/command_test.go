package smtpserver_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/qkdmail/qkdmail/mailer"
	"github.com/qkdmail/qkdmail/mailer/internal/mailtest"
)

// Parameters that only inform are passed on as they came, and are no reason to refuse
// mail (RFC 3461 §4.2, §4.4, §5.2.1).
func TestInformingParameters(t *testing.T) {
	mailtest.Directions(t, func(t *testing.T, d mailer.Direction) {
		mailtest.NoLeaks(t)
		hop := mailtest.StartHop(t)
		r := mailtest.StartRelay(t, d, hop.Addr())
		for _, value := range []string{
			"rfc822;bob@b.example", "RFC822;bob+2Btag@b.example", "x400;/C+3DGB/A+3DX/S+3DBob/", "unknown;bob", "X-LOCAL;bob",
			"rfc822;M+FCller@b.example", "rfc822;b+C3+B3b@b.example", `utf-8;b\x{F3}b@b.example`, "rfc822;\"a+20b\"@c",
		} {
			c := mailtest.Connect(t, r)
			c.Want("250", c.Cmd("MAIL FROM:<alice@a.example> ENVID=QQ314159+3B+FF"))
			c.Want("250", c.Cmd("RCPT TO:<bob@clear.example> ORCPT="+value))
			c.Want("250", c.Cmd("RSET"))
			if heard := hop.Commands(); !strings.Contains(heard, " ORCPT="+value) || !strings.Contains(heard, " ENVID=QQ314159+3B+FF") && !strings.Contains(heard, " ENVID=QQ314159;+FF") {
				t.Errorf("ORCPT=%s: the next hop heard\n%s", value, heard)
			}
			hop.Forget()
		}
		// Values that can't be read at all are no reason either.
		for _, value := range []string{"", ";", "rfc822;", "bob", ";bob", "rfc822;a+", "rfc822;+ZZ", `utf-8;\x{`} {
			c := mailtest.Connect(t, r)
			c.Want("250", c.Cmd("MAIL FROM:<alice@a.example> ENVID="+strings.Trim(value, ";")))
			c.Want("250", c.Cmd("RCPT TO:<bob@clear.example> ORCPT="+value))
		}
	})
}

// <postmaster> needs no domain (RFC 5321 §4.5.1), but every other address does.
func TestPostmaster(t *testing.T) {
	mailtest.Directions(t, func(t *testing.T, d mailer.Direction) {
		mailtest.NoLeaks(t)
		hop, r, c := mailtest.Start(t, d)
		for _, to := range []string{"postmaster", "Postmaster", "POSTMASTER", "postmaster@b.example"} {
			c.Want("250", c.Mail(mailtest.MessageFor(t, d, r.KM), "alice@a.example", to))
			if got := hop.One().Rcpts[0]; got != "RCPT TO:<"+to+">" {
				t.Errorf("the next hop heard %q", got)
			}
			hop.Forget()
		}
		c.Want("250", c.Cmd("MAIL FROM:<postmaster>"))
		c.Want("5", c.Cmd("RCPT TO:<root>"))
		c.Want("5", c.Cmd(`RCPT TO:<"bob@b.example">`))
		c.Want("5", c.Cmd("RCPT TO:<>"))
	})
}

// Blanks after a command do not count (RFC 5321 §4.1.1).
func TestTrailingBlanks(t *testing.T) {
	mailtest.Directions(t, func(t *testing.T, d mailer.Direction) {
		mailtest.NoLeaks(t)
		hop := mailtest.StartHop(t)
		r := mailtest.StartRelay(t, d, hop.Addr())
		c := mailtest.Dial(t, r.Addr)
		c.Want("220", c.Reply())
		for command, want := range map[string]string{"NOOP ": "250", "RSET\t": "250", "VRFY x  ": "252", "HELP ": "214 2.0.0", "help me": "214 2.0.0", "EXPN list": "502 5.5.1", "TURN": "502 5.5.1"} {
			c.Want(want, c.Cmd(command))
		}
		c.Want("250", c.Cmd("EHLO c.example \t"))
		c.Want("250", c.Cmd("MAIL FROM:<alice@a.example>   "))
		c.Want("250", c.Cmd("RCPT TO:<bob@b.example>\t "))
		c.Want("354", c.Cmd("DATA  "))
		c.Send(mailtest.Stuffed(mailtest.MessageFor(t, d, r.KM)))
		c.Want("250", c.Reply())
		c.Want("221", c.Cmd("QUIT "))
		hop.One()
	})
}

// Reply codes for what a client may get wrong, with an enhanced code on each line: RFC
// 1870 §3, RFC 5321 §4.1.1.11, RFC 2034 §4.
func TestReplyCodes(t *testing.T) {
	mailtest.Directions(t, func(t *testing.T, d mailer.Direction) {
		mailtest.NoLeaks(t)
		r := mailtest.StartRelay(t, d, mailtest.StartHop(t).Addr())
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
			c := mailtest.Connect(t, r)
			if strings.HasPrefix(command, "RCPT") {
				c.Want("250", c.Cmd("MAIL FROM:<a@x.example>"))
			}
			if got := c.Cmd(command); !strings.HasPrefix(got, want) {
				t.Errorf("%s: %q, want %s", command, got, want)
			}
			_ = c.Conn.Close()
		}
		c := mailtest.Dial(t, r.Addr)
		c.Want("220", c.Reply())
		for _, command := range []string{"MAIL FROM:<a@x.example>", "RCPT TO:<b@b.example>", "DATA", "AUTH PLAIN"} {
			c.Want("503 5.5.1", c.Cmd(command))
		}
	})
	for _, reply := range []string{"550 5.1.1", "550-5.7.1 Blocked\r\n550-see the site\r\n550 5.7.1 end", "550-Blocked\r\n550 5.7.1 end", "550 no code"} {
		hop := mailtest.StartHop(t, mailtest.Answering("RCPT", reply))
		c := mailtest.Connect(t, mailtest.StartRelay(t, mailer.DirectionEncrypt, hop.Addr()))
		c.Want("250", c.Cmd("MAIL FROM:<a@x.example>"))
		got := c.Cmd("RCPT TO:<b@b.example>")
		for line := range strings.SplitSeq(got, "\r\n") {
			if len(line) < 9 || line[:3] != "550" || line[4:6] != "5." || strings.Contains(reply, "5.7.1") && line[4:9] != "5.7.1" || strings.Contains(reply, "5.1.1") && line[4:9] != "5.1.1" {
				t.Errorf("%q was passed on as %q", reply, got)
			}
		}
	}
}

// A local part that needs its quotes keeps them (RFC 5321 §4.1.2).
func TestQuotedLocalParts(t *testing.T) {
	mailtest.Directions(t, func(t *testing.T, d mailer.Direction) {
		hop, _, c := mailtest.Start(t, d)
		for _, address := range []string{`"a..b"`, `"ab."`, `".ab"`, `"o d"`, `"a\"b"`, `"a@b"`, `"a>b"`, `"a,b"`, `"()"`, `"\\"`, "plain.dot", "o'neil"} {
			path := "<" + address + "@b.example>"
			c.Want("250", c.Cmd("MAIL FROM:"+path))
			c.Want("250", c.Cmd("RCPT TO:"+path))
			c.Want("250", c.Cmd("RSET"))
			if heard := hop.Commands(); !strings.Contains(heard, "MAIL FROM:"+path) || !strings.Contains(heard, "RCPT TO:"+path) {
				t.Errorf("%s: the next hop heard\n%s", path, heard)
			}
			hop.Forget()
		}
	})
}

// A client that sends nonsense is cut off, one that makes a mistake now and then is not.
func TestMistakes(t *testing.T) {
	mailtest.NoLeaks(t)
	r := mailtest.StartRelay(t, mailer.DirectionDecrypt, mailtest.StartHop(t).Addr())
	c := mailtest.Connect(t, r)
	for i := range 50 {
		c.Want("500", c.Cmd(fmt.Sprint("FOO", i)))
		if i%5 == 0 {
			c.Want("250", c.Cmd("NOOP"))
		}
	}
	for i := range 30 {
		if got := c.Cmd(fmt.Sprint("FOO", i)); strings.Contains(got, "421 4.7.0") {
			return
		} else if got == "" {
			break
		}
	}
	if got := c.Reply(); !strings.HasPrefix(got, "421") && got != "" {
		t.Errorf("a client that sends nonsense goes on: %q", got)
	}
	c.Closed()
}

// Parameters that only inform, and would be too long or can't be written to the next hop,
// are left out or encoded, and are no reason to refuse mail.
func TestOddDSNParameters(t *testing.T) {
	for rcpt, want := range map[string]string{
		"ORCPT=rfc822;" + strings.Repeat("x", 480):              "ORCPT=rfc822;" + strings.Repeat("x", 480),
		"ORCPT=rfc822;" + strings.Repeat("x", 600):              "",
		"ORCPT=rfc822;" + strings.Repeat("\xe9", 300):           "", // three times as long when written
		"ORCPT=rfc822;" + strings.Repeat("\xe9", 1900) + "RSET": "",
		"ORCPT=a=<b>\xff@;x":                                    "ORCPT=a+3D<b>+FF@;x",
		"ORCPT=" + strings.Repeat("t", 65) + ";x":               "ORCPT=" + strings.Repeat("t", 65) + ";x",
		"NOTIFY=success,DELAY":                                  "NOTIFY=SUCCESS,DELAY",
		"NOTIFY=FAILURE ORCPT=x-400;c+3Dx":                      "NOTIFY=FAILURE ORCPT=x-400;c+3Dx",
	} {
		hop, _, c := mailtest.Start(t, mailer.DirectionEncrypt)
		c.Want("250", c.Cmd("MAIL FROM:<x@x.example> ENVID="+strings.Repeat("e", 101)))
		c.Want("250", c.Cmd("RCPT TO:<b@clear.example> "+rcpt))
		if want != "" {
			want = " " + want
		}
		if commands := hop.Commands(); !strings.HasSuffix(commands, "RCPT TO:<b@clear.example>"+want) || strings.Contains(commands, "ENVID") {
			t.Errorf("%.80s: the next hop gets %.200q, want %.80q", rcpt, commands, want)
		}
	}
	r := mailtest.StartRelay(t, mailer.DirectionDecrypt, mailtest.StartHop(t).Addr())
	c := mailtest.Connect(t, r)
	c.Want("250", c.Cmd("MAIL FROM:<x@x.example>"))
	for _, notify := range []string{"DELAY,DELAY", "SUCCESS,FAILURE,success", "NEVER,NEVER", "DELAY" + strings.Repeat(",DELAY", 300), ",", ""} {
		c.Want("501 5.5.4", c.Cmd("RCPT TO:<b@b.example> NOTIFY="+notify))
	}
}
