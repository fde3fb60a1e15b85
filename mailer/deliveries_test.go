package mailer_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keystore"
	"github.com/qkdmail/qkdmail/mailer"
	"github.com/qkdmail/qkdmail/mailer/internal/mailtest"
	"github.com/qkdmail/qkdmail/mailer/relay"
	"github.com/qkdmail/qkdmail/mailer/relay/config"
)

// A slowStore takes its time to remember deliveries.
type slowStore struct{ wait time.Duration }

func (s slowStore) Delivered(_ context.Context, _ string, _ kmclient.Identity, _ string, rcpts ...string) ([]bool, error) {
	time.Sleep(s.wait)
	return make([]bool, len(rcpts)), nil
}

func (s slowStore) RecordDelivered(context.Context, string, kmclient.Identity, string, ...string) error {
	time.Sleep(s.wait)
	return nil
}

func (slowStore) Begin(kmclient.Identity, ...string) (commit func() bool, end func()) {
	return func() bool { return true }, func() {}
}

// The wait for keys that is reported includes the deliveries, which are looked up and
// recorded in the same store.
func TestDeliveriesAreTimed(t *testing.T) {
	km, hop := mailtest.NewKM(), mailtest.StartHop(t)
	store := slowStore{20 * time.Millisecond}
	keys := relay.WithoutStore(km)
	keys.Deliveries = store
	r := mailtest.StartRelayWithKeys(t, km, keys, mailer.DirectionDecrypt, hop.Addr())
	seen := &mailtest.Recorder{}
	r.Observe(seen)
	mailtest.Connect(t, r).Mail(mailtest.Seal(t, km, mailtest.Text), "alice@a.example", "bob@b.example")
	hop.One()
	if got := seen.Last(t, 1); got.KeyWait < 2*store.wait || got.Total < got.KeyWait {
		t.Errorf("a message waited %v for keys, of %v in all; the store took %v twice", got.KeyWait, got.Total, store.wait)
	}
}

// A key that its key manager has deleted opens its message until everybody has the
// message, and no one gets it twice.
func TestDeliveredOnce(t *testing.T) {
	hop := mailtest.StartHop(t)
	r, _ := mailtest.StartStored(t, hop.Addr(), keystore.Options{})
	for _, suite := range []cipher.Suite{cipher.SuiteAES256GCM, cipher.SuiteOTP} {
		sealed := mailtest.Seal(t, r.KM, mailtest.Text, func(o *cipher.EncryptOptions) { o.Suite = suite })
		c := mailtest.Connect(t, r)

		// Refused by the next hop: the key has left the key manager, and stays.
		mailtest.Answering("DOT", "451 4.2.0 mailbox busy")(hop)
		c.Want("451 4.2.0", c.Mail(sealed, "alice@a.example", "bob@b.example"))
		hop.Follow(nil)
		hop.Forget()
		c.Want("250", c.Mail(sealed, "alice@a.example", "bob@b.example"))
		if got := hop.One().Data; !strings.HasSuffix(got, mailtest.Text) {
			t.Errorf("%s: %q", suite, got)
		}

		// Again to the same: 250, and not delivered.
		hop.Forget()
		c.Want("250", c.Mail(sealed, "alice@a.example", "bob@b.example"))
		hop.None()

		// One has it and one does not: only the latter gets it.
		c.Want("250", c.Mail(sealed, "alice@a.example", "bob@b.example", "carol@b.example"))
		if to := hop.One().Rcpts; len(to) != 1 || !strings.Contains(to[0], "carol@b.example") {
			t.Errorf("%s: delivered to %q, want carol only", suite, to)
		}
		hop.Forget()
		c.Want("250", c.Mail(sealed, "alice@a.example", "carol@b.example", "bob@b.example"))
		hop.None()
	}
	if _, asked := r.KM.Count(); asked != 2 {
		t.Errorf("the key manager was asked for %d keys, want 2", asked)
	}
}

// The next hop is asked again about the recipients who do not have a message yet. If it
// now refuses one that it accepted a moment ago, that is not an answer for the others,
// nor for those who have the message: the client tries again, and gets the refusal when
// it is about one recipient.
func TestNextHopChangesItsMind(t *testing.T) {
	const alice, dave = "alice@a.example", "dave@b.example"
	for command, changes := range map[string][]func(*config.Config){"RCPT": nil, "MAIL": nil, "RCPT TO": {mailtest.OverLMTP}} {
		hop := mailtest.StartHop(t)
		r, _ := mailtest.StartStored(t, hop.Addr(), keystore.Options{}, changes...)
		sealed := mailtest.Seal(t, r.KM, mailtest.Text)
		c := mailtest.Connect(t, r)
		send := func(rcpts ...string) string {
			if changes != nil {
				return c.Replies(sealed, rcpts...)
			}
			return c.Mail(sealed, alice, rcpts...)[:3]
		}
		c.Want("250", send(bob))
		asked := 0
		hop.Follow(func(line string) string {
			if strings.HasPrefix(line, "RSET") {
				asked++
			}
			if asked > 0 && strings.HasPrefix(line, command) && (command == "MAIL" || strings.Contains(line, carol)) {
				return "554 5.1.1 Not any more"
			}
			return ""
		})
		want := "451"
		if changes != nil {
			want = "250 451 451"
		}
		if got := send(bob, carol, dave); got != want {
			t.Errorf("%s is refused the second time: the answers are %s, want %s", command, got, want)
		}
		hop.Follow(nil)
		hop.Forget()
		c.Want("250", send(bob, carol, dave))
		if to := hop.One().Rcpts; len(to) != 2 {
			t.Errorf("%s: delivered to %q, want carol and dave", command, to)
		}
	}
}

// Another message under a key that has opened one is refused: someone may have
// copied its ID.
func TestKeyBoundToItsMessage(t *testing.T) {
	hop := mailtest.StartHop(t)
	r, m := mailtest.StartStored(t, hop.Addr(), keystore.Options{})
	c := mailtest.Connect(t, r)
	first := mailtest.Seal(t, r.KM, mailtest.Text)
	second := sealAgain(t, r.KM, "From: Alice <alice@a.example>\r\n\r\nanother\r\n")
	c.Want("250", c.Mail(first, "alice@a.example", "bob@b.example"))
	hop.Forget()
	c.Want("550 5.7.1", c.Mail(second, "alice@a.example", "carol@b.example"))
	hop.None()
	if m.Stats().BoundRefused == 0 {
		t.Errorf("the attack is not counted: %+v", m.Stats())
	}
}

// A message that names one of our sending keys is refused for good, and the key manager
// is not asked: whoever saw the ID on the wire can name it.
func TestKeyThatWasSentWith(t *testing.T) {
	hop := mailtest.StartHop(t)
	r, m := mailtest.StartStored(t, hop.Addr(), keystore.Options{})
	keys, err := m.GetKeys(t.Context(), "SAE_A", 256, 1)
	if err != nil {
		t.Fatal(err)
	}
	kmclient.WipeAll(keys)
	c := mailtest.Connect(t, r)
	for n := range 2 {
		c.Want("550 5.7.1", c.Mail(sealAgain(t, r.KM, mailtest.Text), "alice@a.example", "bob@b.example"))
		if s := m.Stats(); int(s.Reused) != n+1 || s.ClosedRefused+s.BoundRefused != 0 {
			t.Errorf("after message %d: %+v, want an alarm for each as reused", n, s)
		}
	}
	hop.None()
	if _, asked := r.KM.Count(); asked != 0 || !strings.Contains(r.Log.String(), `reason="key reused"`) {
		t.Errorf("the key manager was asked for %d keys, want none, and the reason in the log", asked)
	}
}

// A closed key: a recipient who has the message is answered 250, a new one 550.
func TestClosedKey(t *testing.T) {
	now := time.Now()
	hop := mailtest.StartHop(t)
	r, m := mailtest.StartStored(t, hop.Addr(), keystore.Options{Close: keystore.After(0), Now: func() time.Time { return now }})
	c := mailtest.Connect(t, r)
	sealed := mailtest.Seal(t, r.KM, mailtest.Text)
	c.Want("250", c.Mail(sealed, "alice@a.example", "bob@b.example"))
	now = now.Add(time.Hour)
	if err := m.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	hop.Forget()
	c.Want("250", c.Mail(sealed, "alice@a.example", "bob@b.example"))
	if n := m.Stats().ClosedRefused; n != 0 {
		t.Errorf("a mail system that tries once more raises %d alarms", n)
	}
	c.Want("550 5.7.1", c.Mail(sealed, "alice@a.example", "carol@b.example"))
	if n := m.Stats().ClosedRefused; n != 1 {
		t.Errorf("a new recipient raises %d alarms, want 1", n)
	}
	hop.None()
}

// sealAgain encrypts a message under the key that was given out last, as a broken sender
// would, or whoever has stolen the key.
func sealAgain(t *testing.T, km *mailtest.KM, message string) string {
	t.Helper()
	return mailtest.Seal(t, lastKey{km}, message)
}

// lastKey gives out the last key once more.
type lastKey struct{ *mailtest.KM }

func (k lastKey) GetKeys(context.Context, string, int, int) ([]*kmclient.Key, error) {
	return []*kmclient.Key{k.Last()}, nil
}
