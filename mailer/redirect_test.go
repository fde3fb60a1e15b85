package mailer_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/kmclient/keystore"
	"github.com/qkdmail/qkdmail/mailer"
	"github.com/qkdmail/qkdmail/mailer/internal/mailtest"
	"github.com/qkdmail/qkdmail/mailer/relay/config"
)

const mallory = "mallory@b.example"

// sealedTo encrypts a message under a suite, sealed for recipients; a hybrid suite takes
// a key.
func sealedTo(t *testing.T, r *mailtest.Relay, key *mailtest.HybridKey, suite cipher.Suite, rcpts ...string) string {
	t.Helper()
	return mailtest.Seal(t, r.KM, mailtest.Text, func(o *cipher.EncryptOptions) {
		if o.Suite, o.Recipients = suite, rcpts; suite.Hybrid() {
			key.ForKey(o)
		}
	})
}

// Whoever taps the wire and has a mailbox at the site sends a copy of a message on to
// that mailbox, before and after it is delivered. Only the recipient that it is sealed
// for gets it.
func TestRedirect(t *testing.T) {
	key := mailtest.NewHybridKey(t)
	for _, suite := range cipher.Suites() {
		for _, closing := range []string{"after-delivery", "after:7d", "never"} {
			for name, overLMTP := range map[string]bool{"SMTP": false, "LMTP": true} {
				t.Run(fmt.Sprint(suite, " ", closing, " ", name), func(t *testing.T) {
					policy, err := keystore.ParsePolicy(closing)
					if err != nil {
						t.Fatal(err)
					}
					hop := mailtest.StartHop(t)
					r, store := mailtest.StartStored(t, hop.Addr(), keystore.Options{Close: policy}, key.AsOurs, func(c *config.Config) {
						if overLMTP {
							mailtest.OverLMTP(c)
						}
					})
					seen := &mailtest.Recorder{}
					r.Observe(seen)
					sealed := sealedTo(t, r, key, suite, bob)
					c := mailtest.Connect(t, r)
					for range 3 {
						c.Want("550 5.7.1 The encrypted message is not for this recipient", c.Mail(sealed, "evil@evil.example", mallory))
					}
					hop.None()
					if got := seen.Last(t, 3); got.Reason != "redirected" || got.Outcome != mailer.OutcomeRefused || got.Peer != "alpha" || got.Suite != suite {
						t.Errorf("reported is %+v", got)
					}
					c.Want("250", c.Mail(sealed, "alice@a.example", bob))
					if m := hop.One(); m.Rcpts[0] != "RCPT TO:<"+bob+">" || !strings.HasSuffix(m.Data, mailtest.Text) {
						t.Errorf("bob gets %+v", m)
					}
					c.Want("550 5.7.1", c.Mail(sealed, "evil@evil.example", carol))
					c.Want("250", c.Mail(sealed, "alice@a.example", bob)) // again: bob has it already
					hop.One()
					if s := store.Stats(); s.BoundRefused != 0 {
						t.Errorf("%+v: a message that is sent on counts as another message", s)
					}
					log := r.Log.String()
					if n := strings.Count(log, "alarm=redirected"); n != 4 {
						t.Errorf("%d alarms in the log, want 4", n)
					}
					if strings.Contains(log, "mallory") || strings.Contains(log, "carol") {
						t.Error("the log shows addresses")
					}
				})
			}
		}
	}
}

// Over LMTP a recipient that the message is sealed for gets it, and another does not.
// SMTP has one answer, which must not be 250 if anyone gets nothing.
func TestForeignBesideOthers(t *testing.T) {
	mailtest.NoLeaks(t)
	key := mailtest.NewHybridKey(t)
	for _, suite := range cipher.Suites() {
		hop := mailtest.StartHop(t)
		seen := &mailtest.Recorder{}
		r, _ := mailtest.StartStored(t, hop.Addr(), keystore.Options{}, key.AsOurs, mailtest.OverLMTP, func(c *config.Config) { c.Log.Addresses = true })
		r.Observe(seen)
		sealed := sealedTo(t, r, key, suite, bob, carol)
		c := mailtest.Connect(t, r)
		if got := c.Replies(sealed, mallory, bob, "eve@b.example"); got != "550 250 550" {
			t.Errorf("%s: the answers are %s", suite, got)
		}
		if m := hop.One(); fmt.Sprint(m.Rcpts) != "[RCPT TO:<"+bob+">]" {
			t.Errorf("%s: %v get the message", suite, m.Rcpts)
		}
		if got := seen.Last(t, 2); got.Outcome != mailer.OutcomeDecrypted || got.Delivered != 1 || got.Reason != "" {
			t.Errorf("%s: reported for bob is %+v", suite, got)
		}
		if log := r.Log.String(); strings.Count(log, "alarm=redirected") != 1 || !strings.Contains(log, `recipients=2 to="mallory@b.example eve@b.example"`) ||
			!strings.Contains(log, "msg=delivered") {
			t.Errorf("%s: the log is\n%s", suite, log)
		}
		// The others go on: carol gets it later, bob not again.
		if got := c.Replies(sealed, bob, carol, mallory); got != "250 250 550" {
			t.Errorf("%s: the answers are then %s", suite, got)
		}
		if m := hop.Got()[1]; fmt.Sprint(m.Rcpts) != "[RCPT TO:<"+carol+">]" {
			t.Errorf("%s: %v get the message then", suite, m.Rcpts)
		}
		// The next hop has a reason of its own: only bob and carol hear of it.
		mailtest.Answering("DOT", "451 4.2.0 mailbox busy")(hop)
		if got := c.Replies(sealedTo(t, r, key, suite, bob), bob, mallory); got != "451 550" {
			t.Errorf("%s: the answers are in the end %s", suite, got)
		}

		overSMTP, _ := mailtest.StartStored(t, hop.Addr(), keystore.Options{}, key.AsOurs)
		hop.Follow(nil)
		hop.Forget()
		sealed = sealedTo(t, overSMTP, key, suite, bob, carol)
		c = mailtest.Connect(t, overSMTP)
		c.Want("550 5.7.1", c.Mail(sealed, "alice@a.example", bob, mallory, carol))
		hop.None()
		c.Want("250", c.Mail(sealed, "alice@a.example", bob, carol))
		hop.One()
	}
}

// The list in front of the message is verified like the message, and nothing is handed
// over before that. An altered list does not count as a redirected message.
func TestAlteredRecipients(t *testing.T) {
	mailtest.NoLeaks(t)
	key := mailtest.NewHybridKey(t)
	hop, r, c := mailtest.Start(t, mailer.DirectionDecrypt, key.AsOurs)
	for _, suite := range cipher.Suites() {
		sealed := sealedTo(t, r, key, suite, bob)
		end := strings.LastIndex(sealed, "\r\n--") - 8 // within the first chunk or frame
		altered := sealed[:end] + flip(sealed[end]) + sealed[end+1:]
		c.Want("550 5.7.7", c.Mail(altered, "evil@evil.example", mallory))
		c.Want("550 5.7.7", c.Mail(altered, "alice@a.example", bob))
	}
	hop.None()
	if strings.Contains(r.Log.String(), "alarm=") {
		t.Error("it is reported as redirected")
	}
}

// The answer "too late" comes before the list could be read.
func TestOldRedirect(t *testing.T) {
	hop, r, c := mailtest.Start(t, mailer.DirectionDecrypt)
	old := mailtest.Seal(t, r.KM, mailtest.Text, func(o *cipher.EncryptOptions) {
		o.Recipients, o.Time = []string{bob}, time.Now().Add(-31*24*time.Hour)
	})
	c.Want("550 5.7.1 The message was encrypted too long ago", c.Mail(old, "evil@evil.example", mallory))
	hop.None()
	if _, asked := r.KM.Count(); asked != 0 {
		t.Errorf("%d keys were asked for", asked)
	}
}

// A delivered message counts as delivered to all spellings of its recipient, or whoever
// has a copy could have it delivered any number of times. Mailboxes that differ only in
// case are told apart if the message is sealed for each.
func TestDeliveredInAnySpelling(t *testing.T) {
	mailtest.NoLeaks(t)
	all := []string{"Bob@b.example", "bob@b.example", "bob@B.example", "bob@b.example.", "BOB@b.example..", `"bob"@b.example`}
	for _, tt := range []struct {
		sealed, to []string
		want       int // messages that come
	}{
		{[]string{bob, carol}, all, 1},
		{[]string{bob, carol}, append(all, carol, "Carol@b.example"), 2},
		{[]string{"BOB@b.example"}, all, 1},
		{[]string{bob, "Bob@b.example"}, []string{bob, "Bob@b.example", bob, "Bob@B.example"}, 2},
		{nil, []string{bob, "Bob@b.example", bob}, 2}, // the sender did not say
	} {
		hop := mailtest.StartHop(t)
		r, _ := mailtest.StartStored(t, hop.Addr(), keystore.Options{})
		c := mailtest.Connect(t, r)
		sealed := sealedTo(t, r, nil, cipher.SuiteAES256GCM, tt.sealed...)
		for _, to := range tt.to {
			c.Want("250", c.Mail(sealed, "alice@a.example", to))
		}
		if got := len(hop.Got()); got != tt.want {
			t.Errorf("sealed for %q and sent to %q: %d messages come, want %d", tt.sealed, tt.to, got, tt.want)
		}
	}
}

// A client that did not see the 250 uses the same spelling, and is answered 250 although
// the key has been closed since.
func TestDeliveredBeforeClosing(t *testing.T) {
	mailtest.NoLeaks(t)
	hop := mailtest.StartHop(t)
	r, _ := mailtest.StartStored(t, hop.Addr(), keystore.Options{Close: keystore.After(0)})
	c := mailtest.Connect(t, r)
	sealed := sealedTo(t, r, nil, cipher.SuiteAES256GCM, bob)
	for range 2 {
		c.Want("250", c.Mail(sealed, "alice@a.example", "Bob@b.example"))
	}
	hop.One()
}
