package smtpserver_test

import (
	"strings"
	"testing"

	"github.com/qkdmail/qkdmail/mailer"
	"github.com/qkdmail/qkdmail/mailer/internal/mailtest"
	"github.com/qkdmail/qkdmail/mailer/internal/testcerts"
	"github.com/qkdmail/qkdmail/mailer/relay/config"
)

// offerTLS has the listener offer STARTTLS.
func offerTLS(t *testing.T) func(*config.Config) {
	certs := testcerts.Make(t)
	return func(c *config.Config) {
		l := &c.Listeners[0]
		l.TLS, l.TLSCert, l.TLSKey = config.TLSOpportunistic, certs.Cert, certs.Key
	}
}

// Who has begun a transaction in clear does not go on with it in TLS.
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
	// No TLS is no end.
	c = mailtest.Connect(t, r)
	c.Want("220", c.Cmd("STARTTLS"))
	c.Send("this is no TLS\r\n\r\n")
	c.Closed()
}
