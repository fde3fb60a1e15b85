package mailer_test

import (
	"context"
	"github.com/qkdmail/qkdmail/mailer/internal/testcerts"
	"strings"
	"testing"

	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/mailer"
	"github.com/qkdmail/qkdmail/mailer/internal/mailtest"
	"github.com/qkdmail/qkdmail/mailer/relay/config"
)

// A message that is refused behind its first piece must not go out in clear
// without that piece, where a rule is opportunistic and no key is left.
func TestRefusedIsNotSentInClear(t *testing.T) {
	mailtest.NoLeaks(t)
	hop := mailtest.StartHop(t)
	r := mailtest.StartRelay(t, mailer.DirectionEncrypt, hop.Addr(), func(c *config.Config) {
		c.Rules = append(c.Rules, config.Rule{Domain: "auto2.example", Peer: "bravo", Encrypt: mailer.Opportunistic, Suite: "auto", PadLimit: 70_000})
	})
	r.KM.OnGet = func(context.Context) error { return kmclient.ErrKeyExhausted }
	c := mailtest.Connect(t, r)
	for _, size := range []int{10, 30_000, 70_000, 100_000, 300_000} {
		message := mailtest.Text + strings.Repeat("0123456789\r\n", size/12)
		c.Want("550 5.6.0", c.Mail(message+"a\x00b\r\n"+message, "alice@a.example", "b@auto2.example"))
	}
	hop.None()
}

// However many fields stand before it, the From of a message is checked: at the
// door, and sealed inside a peer's.
func TestFromBehindManyFields(t *testing.T) {
	mailtest.NoLeaks(t)
	many := strings.Repeat("a:\r\n", 50_000)
	hop := mailtest.StartHop(t)
	r := mailtest.StartRelay(t, mailer.DirectionDecrypt, hop.Addr())
	c := mailtest.Connect(t, r)
	c.Want("550 5.7.1", c.Mail(many+mailtest.Text, "x@x.example", "bob@b.example"))
	c.Want("550 5.7.1", c.Mail(mailtest.Seal(t, r.KM, many+strings.Replace(mailtest.Text, "a.example", "c.example", 1)), "alice@a.example", "bob@b.example"))
	hop.None()
	c.Want("250", c.Mail(mailtest.Seal(t, r.KM, many+mailtest.Text), "alice@a.example", "bob@b.example"))
	hop.One()
}

// A message that is encrypted for somebody else, or by somebody else, is
// encrypted for the peer of the rule.
func TestEncryptedForAnother(t *testing.T) {
	mailtest.NoLeaks(t)
	hop := mailtest.StartHop(t)
	r := mailtest.StartRelay(t, mailer.DirectionEncrypt, hop.Addr())
	c := mailtest.Connect(t, r)
	for name, change := range map[string]func(*cipher.EncryptOptions){
		"for nobody":      func(o *cipher.EncryptOptions) { o.Peer = "NOBODY" },
		"by a stranger":   func(o *cipher.EncryptOptions) { o.SAE = "EVIL" },
		"without any SAE": func(o *cipher.EncryptOptions) { o.SAE, o.Peer = "", "" },
	} {
		hop.Forget()
		sealed := mailtest.Seal(t, r.KM, mailtest.Text, change)
		c.Want("250", c.Mail(sealed, "alice@a.example", "b@b.example"))
		if got := mailtest.Open(t, r.KM, hop.One().Data); got != sealed {
			t.Errorf("%s: inside is %q", name, clip(got))
		}
	}
}

// A next hop that offers an odd SIZE does no harm, and clients are offered what
// the relay takes itself.
func TestOddSizeOffered(t *testing.T) {
	mailtest.Directions(t, func(t *testing.T, d mailer.Direction) {
		mailtest.NoLeaks(t)
		for _, size := range []string{"SIZE  ", "SIZE x", "SIZE -1", "SIZE 99999999999999999999", "SIZE 9223372036854775807", "SIZE 1 2"} {
			hop := mailtest.StartHop(t, func(h *mailtest.Hop) { h.Extensions = []string{size} })
			r := mailtest.StartRelay(t, d, hop.Addr(), func(c *config.Config) { c.Limits.MessageSize = 12345 })
			c := mailtest.Connect(t, r)
			c.Want("250", c.Mail(mailtest.MessageFor(t, d, r.KM), "alice@a.example", "b@b.example"))
			hop.One()
			if offered := c.Cmd("EHLO c.example"); !strings.Contains(offered+"\r\n", "SIZE 12345\r\n") {
				t.Errorf("%q: the client is offered %q, want SIZE 12345", size, offered)
			}
			if err := r.Stop(); err != nil {
				t.Errorf("%q: %v", size, err)
			}
		}
	})
}

// Who has begun a transaction in clear does not go on with it in TLS.
func TestSTARTTLSForgets(t *testing.T) {
	mailtest.NoLeaks(t)
	certs := testcerts.Make(t)
	hop := mailtest.StartHop(t)
	r := mailtest.StartRelay(t, mailer.DirectionEncrypt, hop.Addr(), func(c *config.Config) {
		l := &c.Listeners[0]
		l.TLS, l.TLSCert, l.TLSKey = config.TLSOpportunistic, certs.Cert, certs.Key
	})
	c := mailtest.Connect(t, r)
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

// go-smtp drops a CR behind a dot at the start of a line; it is a bare one.
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
