package mailer_test

import (
	"strings"
	"testing"

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

// A domain that IDNA refuses is nobody's: no rule may be taken for it that another
// program's reading would not have.
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
