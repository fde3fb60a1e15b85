package mailer

import (
	"context"
	"strings"
	"testing"

	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/kmclient"
)

// A message that is refused behind its first piece must not go out in clear
// without that piece, where a rule is opportunistic and no key is left.
func TestRefusedIsNotSentInClear(t *testing.T) {
	noLeaks(t)
	hop := startHop(t)
	r := startRelay(t, DirectionEncrypt, hop.addr(), func(c *Config) {
		c.Rules = append(c.Rules, RuleConfig{Domain: "auto2.example", Peer: "bravo", Encrypt: Opportunistic, Suite: "auto", PadLimit: 70_000})
	})
	r.km.get = func(context.Context) error { return kmclient.ErrKeyExhausted }
	c := connect(t, r)
	for _, size := range []int{10, 30_000, 70_000, 100_000, 300_000} {
		message := testMessage + strings.Repeat("0123456789\r\n", size/12)
		c.want("550 5.6.0", c.mail(message+"a\x00b\r\n"+message, "alice@a.example", "b@auto2.example"))
	}
	hop.none()
}

// However many fields stand before it, the From of a message is checked: at the
// door, and sealed inside a peer's.
func TestFromBehindManyFields(t *testing.T) {
	noLeaks(t)
	many := strings.Repeat("a:\r\n", 50_000)
	hop := startHop(t)
	r := startRelay(t, DirectionDecrypt, hop.addr())
	c := connect(t, r)
	c.want("550 5.7.1", c.mail(many+testMessage, "x@x.example", "bob@b.example"))
	c.want("550 5.7.1", c.mail(seal(t, r.km, many+strings.Replace(testMessage, "a.example", "c.example", 1)), "alice@a.example", "bob@b.example"))
	hop.none()
	c.want("250", c.mail(seal(t, r.km, many+testMessage), "alice@a.example", "bob@b.example"))
	hop.one()
}

// A message that is encrypted for somebody else, or by somebody else, is
// encrypted for the peer of the rule.
func TestEncryptedForAnother(t *testing.T) {
	noLeaks(t)
	hop := startHop(t)
	r := startRelay(t, DirectionEncrypt, hop.addr())
	c := connect(t, r)
	for name, change := range map[string]func(*cipher.EncryptOptions){
		"for nobody":      func(o *cipher.EncryptOptions) { o.Peer = "NOBODY" },
		"by a stranger":   func(o *cipher.EncryptOptions) { o.SAE = "EVIL" },
		"without any SAE": func(o *cipher.EncryptOptions) { o.SAE, o.Peer = "", "" },
	} {
		hop.forget()
		sealed := seal(t, r.km, testMessage, change)
		c.want("250", c.mail(sealed, "alice@a.example", "b@b.example"))
		if got := open(t, r.km, hop.one().data); got != sealed {
			t.Errorf("%s: inside is %q", name, clip(got))
		}
	}
}

// A next hop that offers an odd SIZE does no harm, and clients are offered what
// the relay takes itself.
func TestOddSizeOffered(t *testing.T) {
	directions(t, func(t *testing.T, d Direction) {
		noLeaks(t)
		for _, size := range []string{"SIZE  ", "SIZE x", "SIZE -1", "SIZE 99999999999999999999", "SIZE 9223372036854775807", "SIZE 1 2"} {
			hop := startHop(t, func(h *testHop) { h.ext = []string{size} })
			r := startRelay(t, d, hop.addr(), func(c *Config) { c.Limits.MessageSize = 12345 })
			c := connect(t, r)
			c.want("250", c.mail(messageFor(t, d, r.km), "alice@a.example", "b@b.example"))
			hop.one()
			if offered := c.cmd("EHLO c.example"); !strings.Contains(offered+"\r\n", "SIZE 12345\r\n") {
				t.Errorf("%q: the client is offered %q, want SIZE 12345", size, offered)
			}
			if err := r.stop(); err != nil {
				t.Errorf("%q: %v", size, err)
			}
		}
	})
}

// Who has begun a transaction in clear does not go on with it in TLS.
func TestSTARTTLSForgets(t *testing.T) {
	noLeaks(t)
	certs := makeCerts(t)
	hop := startHop(t)
	r := startRelay(t, DirectionEncrypt, hop.addr(), func(c *Config) {
		l := &c.Listeners[0]
		l.TLS, l.TLSCert, l.TLSKey = TLSOpportunistic, certs.cert, certs.key
	})
	c := connect(t, r)
	c.want("250", c.cmd("MAIL FROM:<alice@a.example>"))
	c.want("250", c.cmd("RCPT TO:<b@b.example>"))
	c.startTLS()
	c.want("501", c.cmd("EHLO"))
	c.want("503", c.cmd("RCPT TO:<c@b.example>"))
	c.want("503", c.cmd("DATA"))
	c.want("250", c.cmd("EHLO x"))
	c.want("5", c.cmd("DATA"))
	hop.none()
}

// go-smtp drops a CR behind a dot at the start of a line; it is a bare one.
func TestCRBehindDot(t *testing.T) {
	noLeaks(t)
	hop := startHop(t)
	r := startRelay(t, DirectionEncrypt, hop.addr())
	for _, odd := range []string{".\rX\r\n", ".\r\r\nMAIL FROM:<x@x.example>\r\n"} {
		c := connect(t, r)
		c.want("250", c.cmd("MAIL FROM:<alice@a.example>"))
		c.want("250", c.cmd("RCPT TO:<b@clear.example>"))
		c.want("354", c.cmd("DATA"))
		c.send(testMessage + odd + "\r\n.\r\n")
		c.want("550 5.6.0", c.reply())
		c.want("250", c.cmd("NOOP"))
	}
	hop.none()
}
