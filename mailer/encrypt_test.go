package mailer

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/mailer/internal/block"
)

// What the policy says of a recipient is done: the message is encrypted as it
// came, or passes as it is.
func TestEncryptPolicy(t *testing.T) {
	noLeaks(t)
	hop := startHop(t)
	r := startRelay(t, DirectionEncrypt, hop.addr())
	c := connect(t, r)
	large := testMessage + strings.Repeat("more\r\n", 2000)
	for _, tt := range []struct {
		to, message string
		suite       cipher.Suite // "": in clear
		peer        string
	}{
		{"b@b.example", testMessage, cipher.SuiteAES256GCM, "SAE_B"},
		{"b@B.Example", testMessage, cipher.SuiteAES256GCM, "SAE_B"},
		{"b@pad.example", testMessage, cipher.SuiteOTP, "SAE_B"},
		{"b@auto.example", testMessage, cipher.SuiteOTP, "SAE_B"},
		{"b@auto.example", large, cipher.SuiteAES256GCM, "SAE_B"},
		{"b@maybe.example", testMessage, cipher.SuiteAES256GCM, "SAE_B"},
		{"b@anywhere.example", testMessage, cipher.SuiteAES256GCM, "SAE_B"},
		{"b@[192.0.2.1]", testMessage, cipher.SuiteAES256GCM, "SAE_B"},
		{"b@c.example", testMessage, cipher.SuiteAES256GCM, "SAE_C"},
		{"b@clear.example", testMessage, "", ""},
		{`"x@b.example"@clear.example`, testMessage, "", ""},
		{`"x@clear.example"@b.example`, testMessage, cipher.SuiteAES256GCM, "SAE_B"},
	} {
		hop.forget()
		c.want("250", c.mail(tt.message, "alice@a.example", tt.to))
		m := hop.one()
		if m.rcpts[0] != "RCPT TO:<"+tt.to+">" || !strings.HasPrefix(m.mail, "MAIL FROM:<alice@a.example>") {
			t.Error(m.mail, m.rcpts)
		}
		if tt.suite == "" {
			if got := cutReceived(t, m.data); got != "(own Received)"+tt.message {
				t.Errorf("%s: %q", tt.to, got)
			}
			continue
		}
		if got := cutReceived(t, m.data); !strings.HasPrefix(got, "(own Received)Qkdmail-Key-ID: ") || strings.Contains(m.data, "secret") {
			t.Errorf("%s: %s", tt.to, got)
		}
		in, err := cipher.Decrypt(t.Context(), strings.NewReader(m.data), r.km, &cipher.DecryptOptions{Binder: cipher.Unbound, SAE: tt.peer, Peers: []string{"SAE_A"}})
		if err != nil {
			t.Errorf("%s: %v", tt.to, err)
			continue
		}
		var b strings.Builder
		if err := block.Copy(&b, in); err != nil || b.String() != tt.message || in.Info().Suite != tt.suite {
			t.Errorf("%s: %v, %s, %q", tt.to, err, in.Info().Suite, clip(b.String()))
		}
	}
}

// Any octets that SMTP carries come through both relays as they were.
func TestBothRelays(t *testing.T) {
	noLeaks(t)
	hop := startHop(t)
	decrypt := startRelay(t, DirectionDecrypt, hop.addr())
	encrypt := startRelayWith(t, decrypt.km, DirectionEncrypt, decrypt.addr.String())
	c := connect(t, encrypt)
	for i, message := range []string{
		testMessage,
		".\r\n",
		"\r\n",
		"From: a@a.example\r\n\r\n" + strings.Repeat(".\r\n..\r\n\xff\r\n", 30_000),
		"From: a@a.example\r\n\r\n" + strings.Repeat("x", 500_000) + "\r\n",
	} {
		for _, to := range []string{"b@b.example", "b@auto.example", "b@clear.example"} {
			if to == "b@clear.example" && strings.Contains(message, "@a.example") {
				continue // the other side wants it encrypted
			}
			hop.forget()
			c.want("250", c.mail(message, "x@x.example", to))
			if got := hop.one().data; !strings.HasSuffix(got, "\r\n"+message) {
				t.Errorf("message %d to %s: %d octets of %d", i, to, len(got), len(message))
			}
		}
	}
}

// No mail leaves in clear for want of a key, but where the rule says so and the
// key manager has answered that there is none.
func TestFailClosed(t *testing.T) {
	for name, err := range map[string]error{
		"exhausted":   kmclient.ErrKeyExhausted,
		"unavailable": netError(),
		"refused":     kmclient.ErrRefused,
		"not found":   kmclient.ErrKeyNotFound,
		"bad answer":  kmclient.ErrBadAnswer,
		"bad request": kmclient.ErrBadRequest,
		"canceled":    context.Canceled,
	} {
		for _, status := range []string{"", "fails", "empty"} {
			t.Run(name+" status "+status, func(t *testing.T) {
				noLeaks(t)
				hop := startHop(t)
				km := newTestKM()
				km.get = func(context.Context) error { return err }
				switch status {
				case "fails":
					km.status = func() (kmclient.Status, error) { return kmclient.Status{}, err }
				case "empty":
					km.status = func() (kmclient.Status, error) { return kmclient.Status{KeySize: 256, StoredKeys: new(0)}, nil }
				}
				r := startRelayWith(t, km, DirectionEncrypt, hop.addr(), func(c *Config) {
					c.Rules = append(c.Rules, RuleConfig{Domain: "maybepad.example", Peer: "bravo", Encrypt: Opportunistic, Suite: "otp"})
				})
				c := connect(t, r)
				for _, to := range []string{"b@b.example", "b@pad.example", "b@auto.example", "b@anywhere.example"} {
					c.want("451 4.", c.mail(testMessage, "alice@a.example", to))
				}
				hop.none()
				for _, to := range []string{"b@maybe.example", "b@maybepad.example"} {
					hop.forget()
					before := strings.Count(r.log.String(), "in clear for want of keys")
					reply := c.mail(testMessage, "alice@a.example", to)
					clear := err == kmclient.ErrKeyExhausted
					if !clear {
						c.want("451 4.", reply)
						hop.none()
						continue
					}
					c.want("250", reply)
					if got := cutReceived(t, hop.one().data); got != "(own Received)"+testMessage {
						t.Errorf("%q", got)
					}
					if n := strings.Count(r.log.String(), "in clear for want of keys"); n != before+1 {
						t.Error("it was not counted")
					}
				}
			})
		}
	}
}

// A large message to an opportunistic peer, in clear: nothing of it is missing.
func TestInClearWhole(t *testing.T) {
	noLeaks(t)
	hop := startHop(t)
	r := startRelay(t, DirectionEncrypt, hop.addr(), func(c *Config) {
		c.Rules = append(c.Rules,
			RuleConfig{Domain: "pad2.example", Peer: "bravo", Encrypt: Opportunistic, Suite: "otp"},
			RuleConfig{Domain: "auto2.example", Peer: "bravo", Encrypt: Opportunistic, Suite: "auto", PadLimit: 300_000})
	})
	r.km.get = func(context.Context) error { return kmclient.ErrKeyExhausted }
	c := connect(t, r)
	for _, size := range []int{0, 10, 10_000, 30_000, 100_000} {
		for _, to := range []string{"b@maybe.example", "b@pad2.example", "b@auto2.example"} {
			hop.forget()
			message := testMessage + strings.Repeat("0123456789\r\n", size)
			c.want("250", c.mail(message, "alice@a.example", to))
			if got := cutReceived(t, hop.one().data); got != "(own Received)"+message {
				t.Errorf("%d octets to %s: %d octets came", len(message), to, len(got))
			}
		}
	}
	// Keys that run out after the first frame: nothing goes out.
	calls := 0
	r.km.get = func(context.Context) error {
		if calls++; calls > 1 {
			return kmclient.ErrKeyExhausted
		}
		return nil
	}
	hop.forget()
	c.want("451 4.7.5", c.mail(testMessage+strings.Repeat("0123456789\r\n", 20_000), "alice@a.example", "b@pad2.example"))
	hop.none()
}

// auto goes by size, never by the keys that are left.
func TestAutoBySizeOnly(t *testing.T) {
	noLeaks(t)
	hop := startHop(t)
	r := startRelay(t, DirectionEncrypt, hop.addr())
	r.km.get = func(context.Context) error { return kmclient.ErrKeyExhausted }
	c := connect(t, r)
	for _, size := range []string{"SIZE=4000", "SIZE=97"} {
		c.want("250", c.cmd("MAIL FROM:<a@a.example> "+size))
		c.want("250", c.cmd("RCPT TO:<b@auto.example>"))
		c.want("354", c.cmd("DATA"))
		c.send(stuffed(testMessage))
		c.want("451 4.7.5", c.reply())
	}
	hop.none()
	r.km.get = nil
	// Above the limit one key is enough.
	c.want("250", c.cmd("MAIL FROM:<a@a.example> SIZE=100000"))
	c.want("250", c.cmd("RCPT TO:<b@auto.example>"))
	c.want("354", c.cmd("DATA"))
	c.send(stuffed(testMessage + strings.Repeat("more\r\n", 15_000)))
	c.want("250", c.reply())
	if given, _ := r.km.count(); given != 1 {
		t.Errorf("%d keys were spent", given)
	}
}

// What next hop and client say of the size is known before a key is spent.
func TestSizeBeforeKeys(t *testing.T) {
	noLeaks(t)
	hop := startHop(t, func(h *testHop) { h.ext = []string{"SIZE 1000000"} })
	r := startRelay(t, DirectionEncrypt, hop.addr())
	c := connect(t, r)
	c.want("250", attempt(c, testMessage)) // so that the next hop was seen
	c.want("552 5.3.4", c.cmd("MAIL FROM:<a@a.example> SIZE=900000"))
	c.want("250", c.cmd("MAIL FROM:<a@a.example> SIZE=700000"))
	if strings.Contains(hop.commands(), "SIZE=") {
		t.Error("the client's size was copied through")
	}
}

// Encrypted already: not again. Only said to be: encrypted.
func TestAlreadyEncrypted(t *testing.T) {
	noLeaks(t)
	hop := startHop(t)
	r := startRelay(t, DirectionEncrypt, hop.addr())
	c := connect(t, r)
	sealed := seal(t, r.km, testMessage)
	given, _ := r.km.count()
	c.want("250", c.mail(sealed, "alice@a.example", "b@b.example"))
	if got := hop.one().data; open(t, r.km, got) != testMessage {
		t.Errorf("%q", clip(got))
	}
	if now, _ := r.km.count(); now != given {
		t.Error("a key was spent")
	}
	boundary := "Content-Type: multipart/encrypted; protocol=\"application/vnd.qkdmail\"; boundary=x\r\n"
	for name, header := range map[string]string{
		"the field alone":     "",
		"a claim of a type":   "MIME-Version: 1.0\r\n" + boundary,
		"a version to come":   "MIME-Version: 1.0\r\n" + boundary + "X: Version: 9\r\n",
		"two key IDs":         "Qkdmail-Key-ID: y\r\n",
		"an empty type field": "Content-Type: \r\n",
	} {
		hop.forget()
		message := "Qkdmail-Key-ID: x\r\n" + header + testMessage
		c.want("250", c.mail(message, "alice@a.example", "b@b.example"))
		if got := hop.one().data; strings.Contains(got, "secret") {
			t.Errorf("%s: it left in clear", name)
		} else if got := open(t, r.km, got); got != message {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// A bounce takes the same policy as all other mail.
func TestBounceIsEncrypted(t *testing.T) {
	noLeaks(t)
	hop := startHop(t)
	r := startRelay(t, DirectionEncrypt, hop.addr())
	c := connect(t, r)
	c.want("250", c.mail(testMessage, "", "b@b.example"))
	m := hop.one()
	if !strings.HasPrefix(m.mail, "MAIL FROM:<>") || open(t, r.km, m.data) != testMessage {
		t.Error(m.mail, clip(m.data))
	}
}

// Two kinds of recipients in one SMTP message: the second has to come again,
// unless the first kind has no recipient in the end.
func TestSecondGroup(t *testing.T) {
	noLeaks(t)
	hop := startHop(t, answering("RCPT TO:<no@", "550 5.1.1 no such user"))
	r := startRelay(t, DirectionEncrypt, hop.addr())
	c := connect(t, r)
	c.want("250", c.cmd("MAIL FROM:<a@a.example>"))
	c.want("250", c.cmd("RCPT TO:<1@b.example>"))
	c.want("452 4.5.3", c.cmd("RCPT TO:<2@clear.example>"))
	c.want("452 4.5.3", c.cmd("RCPT TO:<2@c.example>"))
	c.want("250", c.cmd("RCPT TO:<3@anywhere.example>")) // another rule, the same treatment
	c.want("550 5.1.1", c.cmd("RCPT TO:<no@b.example>"))
	c.want("354", c.cmd("DATA"))
	c.send(stuffed(testMessage))
	c.want("250", c.reply())
	if m := hop.one(); len(m.rcpts) != 2 || open(t, r.km, m.data) != testMessage {
		t.Error(m.rcpts)
	}
	hop.forget()
	c.want("250", c.cmd("MAIL FROM:<a@a.example>"))
	c.want("550 5.1.1", c.cmd("RCPT TO:<no@b.example>"))
	c.want("503", c.cmd("DATA"))
	c.want("250", c.cmd("RCPT TO:<2@clear.example>"))
	c.want("452 4.5.3", c.cmd("RCPT TO:<1@b.example>"))
	c.want("354", c.cmd("DATA"))
	c.send(stuffed(testMessage))
	c.want("250", c.reply())
	if m := hop.one(); fmt.Sprint(m.rcpts) != "[RCPT TO:<2@clear.example>]" {
		t.Error(m.rcpts)
	}
}

// A second MAIL is refused, and RSET, EHLO and QUIT end a transaction here and
// at the next hop.
func TestTransactions(t *testing.T) {
	directions(t, func(t *testing.T, d Direction) {
		noLeaks(t)
		hop := startHop(t)
		r := startRelay(t, d, hop.addr())
		c := connect(t, r)
		begin := func() {
			t.Helper()
			c.want("250", c.cmd("MAIL FROM:<first@x.example>"))
			c.want("250", c.cmd("RCPT TO:<first@clear.example>"))
		}
		begin()
		c.want("503 5.5.1", c.cmd("MAIL FROM:<second@x.example>"))
		for _, end := range []string{"RSET", "EHLO again"} {
			c.want("250", c.cmd(end))
			c.want("503", c.cmd("RCPT TO:<x@clear.example>"))
			c.want("503", c.cmd("DATA"))
			c.want("250", c.mail("From: x@x.example\r\n\r\nbody\r\n", "third@x.example", "third@clear.example"))
			c.want("503", c.cmd("DATA")) // ended by the message
			if m := hop.one(); fmt.Sprint(m.mail, m.rcpts) != "MAIL FROM:<third@x.example> BODY=8BITMIME[RCPT TO:<third@clear.example>]" {
				t.Error(m.mail, m.rcpts)
			}
			hop.forget()
			begin()
		}
		c.want("221", c.cmd("QUIT"))
		c.closed()
		_ = r.stop()
		hop.none()
		if !strings.Contains(hop.commands(), "RSET") {
			t.Error("the next hop was not told")
		}
	})
}
