package mailer_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/mailer"
	"github.com/qkdmail/qkdmail/mailer/internal/block"
	"github.com/qkdmail/qkdmail/mailer/internal/mailtest"
	"github.com/qkdmail/qkdmail/mailer/relay/config"
)

// What the policy says about a recipient happens: the message is encrypted as it came, or
// passes as it is.
func TestEncryptPolicy(t *testing.T) {
	mailtest.NoLeaks(t)
	hop, r, c := mailtest.Start(t, mailer.DirectionEncrypt)
	large := mailtest.Text + strings.Repeat("more\r\n", 2000)
	for _, tt := range []struct {
		to, message string
		suite       cipher.Suite // "": in clear
		peer        string
	}{
		{"b@b.example", mailtest.Text, cipher.SuiteAES256GCM, "SAE_B"},
		{"b@B.Example", mailtest.Text, cipher.SuiteAES256GCM, "SAE_B"},
		{"b@pad.example", mailtest.Text, cipher.SuiteOTP, "SAE_B"},
		{"b@auto.example", mailtest.Text, cipher.SuiteOTP, "SAE_B"},
		{"b@auto.example", large, cipher.SuiteAES256GCM, "SAE_B"},
		{"b@maybe.example", mailtest.Text, cipher.SuiteAES256GCM, "SAE_B"},
		{"b@anywhere.example", mailtest.Text, cipher.SuiteAES256GCM, "SAE_B"},
		{"b@[192.0.2.1]", mailtest.Text, cipher.SuiteAES256GCM, "SAE_B"},
		{"b@c.example", mailtest.Text, cipher.SuiteAES256GCM, "SAE_C"},
		{"b@clear.example", mailtest.Text, "", ""},
		{`"x@b.example"@clear.example`, mailtest.Text, "", ""},
		{`"x@clear.example"@b.example`, mailtest.Text, cipher.SuiteAES256GCM, "SAE_B"},
	} {
		hop.Forget()
		c.Want("250", c.Mail(tt.message, "alice@a.example", tt.to))
		m := hop.One()
		if m.Rcpts[0] != "RCPT TO:<"+tt.to+">" || !strings.HasPrefix(m.Mail, "MAIL FROM:<alice@a.example>") {
			t.Error(m.Mail, m.Rcpts)
		}
		if tt.suite == "" {
			if got := cutReceived(t, m.Data); got != "(own Received)"+tt.message {
				t.Errorf("%s: %q", tt.to, got)
			}
			continue
		}
		if got := cutReceived(t, m.Data); !strings.HasPrefix(got, "(own Received)Qkdmail-Key-ID: ") || strings.Contains(m.Data, "secret") {
			t.Errorf("%s: %s", tt.to, got)
		}
		in, err := cipher.Decrypt(t.Context(), strings.NewReader(m.Data), r.KM, &cipher.DecryptOptions{Binder: cipher.Unbound, SAE: tt.peer, Peers: []string{"SAE_A"}})
		if err != nil {
			t.Errorf("%s: %v", tt.to, err)
			continue
		}
		var b strings.Builder
		if err := block.Copy(&b, in); err != nil || b.String() != tt.message || in.Info().Suite != tt.suite {
			t.Errorf("%s: %v, %s, %q", tt.to, err, in.Info().Suite, mailtest.Clip(b.String()))
		}
	}
}

// Any bytes that SMTP carries come through both relays as they were.
func TestBothRelays(t *testing.T) {
	mailtest.NoLeaks(t)
	hop := mailtest.StartHop(t)
	decrypt := mailtest.StartRelay(t, mailer.DirectionDecrypt, hop.Addr())
	encrypt := mailtest.StartRelayWith(t, decrypt.KM, mailer.DirectionEncrypt, decrypt.Addr.String())
	c := mailtest.Connect(t, encrypt)
	for i, message := range []string{
		mailtest.Text,
		".\r\n",
		"\r\n",
		"From: a@a.example\r\n\r\n" + strings.Repeat(".\r\n..\r\n\xff\r\n", 30_000),
		"From: a@a.example\r\n\r\n" + strings.Repeat("x", 500_000) + "\r\n",
	} {
		for _, to := range []string{"b@b.example", "b@auto.example", "b@clear.example"} {
			if to == "b@clear.example" && strings.Contains(message, "@a.example") {
				continue // the other side wants it encrypted
			}
			hop.Forget()
			from := "x@a.example"
			if to == "b@clear.example" {
				from = "x@x.example"
			}
			c.Want("250", c.Mail(message, from, to))
			if got := hop.One().Data; !strings.HasSuffix(got, "\r\n"+message) {
				t.Errorf("message %d to %s: %d bytes of %d", i, to, len(got), len(message))
			}
		}
	}
}

// No mail leaves in clear for want of a key, unless the rule says so and the key manager
// has answered that there is none.
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
				mailtest.NoLeaks(t)
				hop := mailtest.StartHop(t)
				km := mailtest.NewKM()
				km.OnGet = func(context.Context) error { return err }
				switch status {
				case "fails":
					km.OnStatus = func() (kmclient.Status, error) { return kmclient.Status{}, err }
				case "empty":
					km.OnStatus = func() (kmclient.Status, error) { return kmclient.Status{KeySize: 256, StoredKeys: new(0)}, nil }
				}
				r := mailtest.StartRelayWith(t, km, mailer.DirectionEncrypt, hop.Addr(), func(c *config.Config) {
					c.Rules = append(c.Rules, config.Rule{Domain: "maybepad.example", Peer: "bravo", Encrypt: mailer.Opportunistic, Suite: "otp"})
				})
				c := mailtest.Connect(t, r)
				for _, to := range []string{"b@b.example", "b@pad.example", "b@auto.example", "b@anywhere.example"} {
					c.Want("451 4.", c.Mail(mailtest.Text, "alice@a.example", to))
				}
				hop.None()
				for _, to := range []string{"b@maybe.example", "b@maybepad.example"} {
					hop.Forget()
					before := strings.Count(r.Log.String(), "in clear for want of keys")
					reply := c.Mail(mailtest.Text, "alice@a.example", to)
					clear := err == kmclient.ErrKeyExhausted
					if !clear {
						c.Want("451 4.", reply)
						hop.None()
						continue
					}
					c.Want("250", reply)
					if got := cutReceived(t, hop.One().Data); got != "(own Received)"+mailtest.Text {
						t.Errorf("%q", got)
					}
					if n := strings.Count(r.Log.String(), "in clear for want of keys"); n != before+1 {
						t.Error("it was not counted")
					}
				}
			})
		}
	}
}

// A large message to an opportunistic peer leaves in clear, whole.
func TestInClearWhole(t *testing.T) {
	mailtest.NoLeaks(t)
	hop := mailtest.StartHop(t)
	r := mailtest.StartRelay(t, mailer.DirectionEncrypt, hop.Addr(), func(c *config.Config) {
		c.Rules = append(c.Rules,
			config.Rule{Domain: "pad2.example", Peer: "bravo", Encrypt: mailer.Opportunistic, Suite: "otp"},
			config.Rule{Domain: "auto2.example", Peer: "bravo", Encrypt: mailer.Opportunistic, Suite: "auto", PadLimit: 300_000})
	})
	r.KM.OnGet = func(context.Context) error { return kmclient.ErrKeyExhausted }
	c := mailtest.Connect(t, r)
	for _, size := range []int{0, 10, 10_000, 30_000, 100_000} {
		for _, to := range []string{"b@maybe.example", "b@pad2.example", "b@auto2.example"} {
			hop.Forget()
			message := mailtest.Text + strings.Repeat("0123456789\r\n", size)
			c.Want("250", c.Mail(message, "alice@a.example", to))
			if got := cutReceived(t, hop.One().Data); got != "(own Received)"+message {
				t.Errorf("%d bytes to %s: %d bytes came", len(message), to, len(got))
			}
		}
	}
	// Keys that run out after the first frame: nothing goes out.
	calls := 0
	r.KM.OnGet = func(context.Context) error {
		if calls++; calls > 1 {
			return kmclient.ErrKeyExhausted
		}
		return nil
	}
	hop.Forget()
	c.Want("451 4.7.5", c.Mail(mailtest.Text+strings.Repeat("0123456789\r\n", 20_000), "alice@a.example", "b@pad2.example"))
	hop.None()
}

// auto decides by size, never by how many keys are left.
func TestAutoBySizeOnly(t *testing.T) {
	mailtest.NoLeaks(t)
	hop := mailtest.StartHop(t)
	r := mailtest.StartRelay(t, mailer.DirectionEncrypt, hop.Addr())
	r.KM.OnGet = func(context.Context) error { return kmclient.ErrKeyExhausted }
	c := mailtest.Connect(t, r)
	for _, size := range []string{"SIZE=4000", "SIZE=97"} {
		c.Want("250", c.Cmd("MAIL FROM:<a@a.example> "+size))
		c.Want("250", c.Cmd("RCPT TO:<b@auto.example>"))
		c.Want("354", c.Cmd("DATA"))
		c.Send(mailtest.Stuffed(mailtest.Text))
		c.Want("451 4.7.5", c.Reply())
	}
	hop.None()
	r.KM.OnGet = nil
	// Above the limit one key is enough.
	c.Want("250", c.Cmd("MAIL FROM:<a@a.example> SIZE=100000"))
	c.Want("250", c.Cmd("RCPT TO:<b@auto.example>"))
	c.Want("354", c.Cmd("DATA"))
	c.Send(mailtest.Stuffed(mailtest.Text + strings.Repeat("more\r\n", 15_000)))
	c.Want("250", c.Reply())
	if given, _ := r.KM.Count(); given != 1 {
		t.Errorf("%d keys were spent", given)
	}
}

// A size that the client declares, or that the next hop does not take, is noticed before
// a key is spent.
func TestSizeBeforeKeys(t *testing.T) {
	mailtest.NoLeaks(t)
	hop := mailtest.StartHop(t, func(h *mailtest.Hop) { h.Extensions = []string{"SIZE 1000000"} })
	r := mailtest.StartRelay(t, mailer.DirectionEncrypt, hop.Addr())
	c := mailtest.Connect(t, r)
	c.Want("250", c.Attempt(mailtest.Text)) // so that the next hop was seen
	c.Want("552 5.3.4", c.Cmd("MAIL FROM:<a@a.example> SIZE=900000"))
	c.Want("250", c.Cmd("MAIL FROM:<a@a.example> SIZE=640000"))
	if strings.Contains(hop.Commands(), "SIZE=") {
		t.Error("the client's size was copied through")
	}
}

// A message that is already encrypted is not encrypted again; one that only claims to be,
// is.
func TestAlreadyEncrypted(t *testing.T) {
	mailtest.NoLeaks(t)
	hop, r, c := mailtest.Start(t, mailer.DirectionEncrypt)
	sealed := mailtest.Seal(t, r.KM, mailtest.Text)
	given, _ := r.KM.Count()
	c.Want("250", c.Mail(sealed, "alice@a.example", "b@b.example"))
	if got := hop.One().Data; mailtest.Open(t, r.KM, got) != mailtest.Text {
		t.Errorf("%q", mailtest.Clip(got))
	}
	if now, _ := r.KM.Count(); now != given {
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
		hop.Forget()
		message := "Qkdmail-Key-ID: x\r\n" + header + mailtest.Text
		c.Want("250", c.Mail(message, "alice@a.example", "b@b.example"))
		if got := hop.One().Data; strings.Contains(got, "secret") {
			t.Errorf("%s: it left in clear", name)
		} else if got := mailtest.Open(t, r.KM, got); got != message {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// A bounce follows the same policy as all other mail.
func TestBounceIsEncrypted(t *testing.T) {
	mailtest.NoLeaks(t)
	hop, r, c := mailtest.Start(t, mailer.DirectionEncrypt)
	c.Want("250", c.Mail(mailtest.Text, "", "b@b.example"))
	m := hop.One()
	if !strings.HasPrefix(m.Mail, "MAIL FROM:<>") || mailtest.Open(t, r.KM, m.Data) != mailtest.Text {
		t.Error(m.Mail, mailtest.Clip(m.Data))
	}
}

// Two kinds of recipients in one SMTP message: the second kind has to come again, unless
// no recipient of the first kind was accepted.
func TestSecondGroup(t *testing.T) {
	mailtest.NoLeaks(t)
	hop := mailtest.StartHop(t, mailtest.Answering("RCPT TO:<no@", "550 5.1.1 no such user"))
	r := mailtest.StartRelay(t, mailer.DirectionEncrypt, hop.Addr())
	c := mailtest.Connect(t, r)
	c.Want("250", c.Cmd("MAIL FROM:<a@a.example>"))
	c.Want("250", c.Cmd("RCPT TO:<1@b.example>"))
	c.Want("452 4.5.3", c.Cmd("RCPT TO:<2@clear.example>"))
	c.Want("452 4.5.3", c.Cmd("RCPT TO:<2@c.example>"))
	c.Want("250", c.Cmd("RCPT TO:<3@anywhere.example>")) // another rule, the same treatment
	c.Want("550 5.1.1", c.Cmd("RCPT TO:<no@b.example>"))
	c.Want("354", c.Cmd("DATA"))
	c.Send(mailtest.Stuffed(mailtest.Text))
	c.Want("250", c.Reply())
	if m := hop.One(); len(m.Rcpts) != 2 || mailtest.Open(t, r.KM, m.Data) != mailtest.Text {
		t.Error(m.Rcpts)
	}
	hop.Forget()
	c.Want("250", c.Cmd("MAIL FROM:<a@a.example>"))
	c.Want("550 5.1.1", c.Cmd("RCPT TO:<no@b.example>"))
	c.Want("503", c.Cmd("DATA"))
	c.Want("250", c.Cmd("RCPT TO:<2@clear.example>"))
	c.Want("452 4.5.3", c.Cmd("RCPT TO:<1@b.example>"))
	c.Want("354", c.Cmd("DATA"))
	c.Send(mailtest.Stuffed(mailtest.Text))
	c.Want("250", c.Reply())
	if m := hop.One(); fmt.Sprint(m.Rcpts) != "[RCPT TO:<2@clear.example>]" {
		t.Error(m.Rcpts)
	}
}

// A second MAIL is refused, and RSET, EHLO and QUIT end a transaction here and
// at the next hop.
func TestTransactions(t *testing.T) {
	mailtest.Directions(t, func(t *testing.T, d mailer.Direction) {
		mailtest.NoLeaks(t)
		hop, r, c := mailtest.Start(t, d)
		begin := func() {
			t.Helper()
			c.Want("250", c.Cmd("MAIL FROM:<first@x.example>"))
			c.Want("250", c.Cmd("RCPT TO:<first@clear.example>"))
		}
		begin()
		c.Want("503 5.5.1", c.Cmd("MAIL FROM:<second@x.example>"))
		for _, end := range []string{"RSET", "EHLO again"} {
			c.Want("250", c.Cmd(end))
			c.Want("503", c.Cmd("RCPT TO:<x@clear.example>"))
			c.Want("503", c.Cmd("DATA"))
			c.Want("250", c.Mail("From: x@x.example\r\n\r\nbody\r\n", "third@x.example", "third@clear.example"))
			c.Want("503", c.Cmd("DATA")) // the message has ended it
			if m := hop.One(); !strings.HasPrefix(m.Mail, "MAIL FROM:<third@x.example> BODY=8BITMIME") || fmt.Sprint(m.Rcpts) != "[RCPT TO:<third@clear.example>]" {
				t.Error(m.Mail, m.Rcpts)
			}
			hop.Forget()
			begin()
		}
		c.Want("221", c.Cmd("QUIT"))
		c.Closed()
		_ = r.Stop()
		hop.None()
		if !strings.Contains(hop.Commands(), "RSET") {
			t.Error("the next hop heard nothing about it")
		}
	})
}

// A message that is refused after its first piece must not go out in clear without that
// piece if a rule is opportunistic and no key is left.
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

// A message that is encrypted for someone else, or by someone else, is
// encrypted for the peer of the rule.
func TestEncryptedForAnother(t *testing.T) {
	mailtest.NoLeaks(t)
	hop, r, c := mailtest.Start(t, mailer.DirectionEncrypt)
	for name, change := range map[string]func(*cipher.EncryptOptions){
		"for nobody":      func(o *cipher.EncryptOptions) { o.Peer = "NOBODY" },
		"by a stranger":   func(o *cipher.EncryptOptions) { o.SAE = "EVIL" },
		"without any SAE": func(o *cipher.EncryptOptions) { o.SAE, o.Peer = "", "" },
	} {
		hop.Forget()
		sealed := mailtest.Seal(t, r.KM, mailtest.Text, change)
		c.Want("250", c.Mail(sealed, "alice@a.example", "b@b.example"))
		if got := mailtest.Open(t, r.KM, hop.One().Data); got != sealed {
			t.Errorf("%s: inside is %q", name, mailtest.Clip(got))
		}
	}
}

// An opportunistic rule with a one-time pad: the key manager runs dry after
// the first frame.
func TestInClearNeverAfterKeys(t *testing.T) {
	hop := mailtest.StartHop(t)
	km := mailtest.NewKM()
	km.OnStatus = func() (kmclient.Status, error) {
		return kmclient.Status{KeySize: 256, StoredKeys: new(100_000), MaxKeySize: 256, MinKeySize: 64, MaxKeyPerRequest: 8}, nil
	}
	n := 0
	km.OnGet = func(context.Context) error {
		if n++; n > 20 {
			return fmt.Errorf("test: %w", kmclient.ErrKeyExhausted)
		}
		return nil
	}
	r := mailtest.StartRelayWith(t, km, mailer.DirectionEncrypt, hop.Addr(), func(c *config.Config) {
		c.Rules = append([]config.Rule{{Domain: "maybepad.example", Peer: "bravo", Encrypt: mailer.Opportunistic, Suite: "otp"}}, c.Rules...)
	})
	c := mailtest.Connect(t, r)
	reply := c.Mail(mailtest.Text+strings.Repeat("very secret line\r\n", 1000), "alice@a.example", "bob@maybepad.example")
	given, _ := km.Count()
	clear := false
	for _, m := range hop.Got() {
		clear = clear || strings.Contains(m.Data, "very secret line")
	}
	if clear || !strings.HasPrefix(reply, "451") {
		t.Errorf("%q, in clear: %v, with %d keys spent on it", reply, clear, given)
	}
}
