package mailer_test

import (
	"strings"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/mailer"
	"github.com/qkdmail/qkdmail/mailer/internal/mailtest"
	"github.com/qkdmail/qkdmail/mailer/internal/testcerts"
	"github.com/qkdmail/qkdmail/mailer/relay/config"
)

// The trace field names the protocol that was used (RFC 3848).
func TestProtocolInReceived(t *testing.T) {
	certs := testcerts.Make(t)
	for _, tt := range []struct {
		hello string
		tls   bool
		want  string
	}{{"HELO", false, "SMTP"}, {"EHLO", false, "ESMTP"}, {"EHLO", true, "ESMTPS"}} {
		hop := mailtest.StartHop(t)
		r := mailtest.StartRelay(t, mailer.DirectionEncrypt, hop.Addr(), func(c *config.Config) {
			l := &c.Listeners[0]
			l.TLS, l.TLSCert, l.TLSKey = config.TLSOpportunistic, certs.Cert, certs.Key
		})
		c := mailtest.Dial(t, r.Addr)
		c.Want("220", c.Reply())
		if tt.tls {
			c.Want("250", c.Cmd("EHLO c.example"))
			c.StartTLS()
		}
		c.Want("250", c.Cmd(tt.hello+" old.example"))
		c.Want("250", c.Mail(mailtest.Text, "alice@a.example", "bob@b.example"))
		if got := hop.One().Data; !strings.Contains(got, " with "+tt.want+";") {
			t.Errorf("%s, TLS %v: %.200q, want %s", tt.hello, tt.tls, got, tt.want)
		}
	}
}

// A domain that IDNA refuses has no owner: no rule may apply to it, since another program
// may read it as another domain.
func TestDomainsThatIDNARefuses(t *testing.T) {
	r := mailtest.StartRelay(t, mailer.DirectionEncrypt, mailtest.StartHop(t).Addr())
	c := mailtest.Connect(t, r)
	c.Want("250", c.Cmd("MAIL FROM:<x@x.example> SMTPUTF8"))
	for _, domain := range []string{"b.exam\u200dple", "b\u2024example", "b.ex\u202eample", "\u0301b.example", "b.\ufffdexample"} {
		c.Want("553 5.1.3", c.Cmd("RCPT TO:<u@"+domain+">"))
	}
	for _, domain := range []string{"b\u3002example", "\uff42.example", "b\u00fccher.example", "b_c.example"} {
		c.Want("250", c.Cmd("RCPT TO:<u@"+domain+">"))
	}
}

// A client's name for itself can't create header fields.
func TestReceivedField(t *testing.T) {
	mailtest.NoLeaks(t)
	hop := mailtest.StartHop(t)
	r := mailtest.StartRelay(t, mailer.DirectionDecrypt, hop.Addr())
	for hello, want := range map[string]string{
		"client.example":            "Received: from client.example ([127.0.0.1])\r\n\tby relay.example (qkdmail) with ESMTP;\r\n\t",
		"evil)(by\"x\\y;z":          "Received: from evil__by_x_y_z ([127.0.0.1])\r\n",
		"ä":                         "Received: from ?",
		"two words":                 "Received: from two ([127.0.0.1])\r\n",
		strings.Repeat("long", 400): "Received: from longlong",
		"\tX-Evil:":                 "Received: from X-Evil: (",
	} {
		hop.Forget()
		c := mailtest.Dial(t, r.Addr)
		c.Want("220", c.Reply())
		c.Want("250", c.Cmd("EHLO "+hello))
		c.Want("250", c.Mail("From: x@x.example\r\n\r\nbody\r\n", "x@x.example", "y@y.example"))
		m := hop.One()
		if !strings.HasPrefix(m.Data, want) {
			t.Errorf("%q made %q", hello, m.Data)
		}
		for line := range strings.Lines(m.Data) {
			if len(line) > 998 {
				t.Error("the field is too long")
			}
		}
		stamp := strings.SplitN(m.Data, ";\r\n\t", 2)[1]
		if _, err := time.Parse(time.RFC1123Z, strings.SplitN(stamp, "\r\n", 2)[0]); err != nil && !strings.Contains(stamp, ", ") {
			t.Error(err)
		}
	}
}
