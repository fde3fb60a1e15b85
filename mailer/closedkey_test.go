package mailer_test

import (
	"bytes"
	"context"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keystore"
	"github.com/qkdmail/qkdmail/mailer/internal/mailtest"
	"github.com/qkdmail/qkdmail/mailer/relay/config"
)

// A fixedKey is a key manager that always gives out the same key: one that was set back,
// or one made up by someone who has only seen the key's ID.
type fixedKey struct {
	id   string
	bits []byte
}

func (k fixedKey) Status(context.Context, string) (kmclient.Status, error) {
	return kmclient.Status{KeySize: 256, StoredKeys: new(1), MaxKeySize: 4096, MaxKeyPerRequest: 1}, nil
}

func (k fixedKey) GetKeys(_ context.Context, _ string, size, _ int) ([]*kmclient.Key, error) {
	return []*kmclient.Key{kmclient.NewKey(k.id, bytes.Clone(k.bits[:size/8]))}, nil
}

// madeUp returns a key with this ID and other bytes for each seed.
func madeUp(id string, seed uint64) fixedKey {
	k := fixedKey{id, make([]byte, 512)}
	random := rand.NewChaCha8([32]byte{byte(seed)})
	_, _ = random.Read(k.bits)
	return k
}

// A closedKit is a relay that has delivered message one to bob. Its key manager gives out
// the key whenever it is asked.
type closedKit struct {
	*testing.T
	hop    *mailtest.Hop
	relay  *mailtest.Relay
	store  *keystore.Store
	client *mailtest.Client
	suite  cipher.Suite
	key    fixedKey
	now    time.Time
	one    string
}

const (
	bob   = "bob@b.example"
	carol = "carol@b.example"
)

func newClosedKit(t *testing.T, suite cipher.Suite, changes ...func(*config.Config)) *closedKit {
	t.Helper()
	k := &closedKit{T: t, hop: mailtest.StartHop(t), suite: suite, now: time.Now()}
	k.relay, k.store = mailtest.StartStored(t, k.hop.Addr(), keystore.Options{Now: func() time.Time { return k.now }}, changes...)
	k.key = madeUp("9b42e9e2-38cc-4d7f-ba7e-94e0ed1a8a1c", 1)
	k.one = k.seal(k.key, "message ONE")
	k.give()
	k.client = mailtest.Connect(t, k.relay)
	return k
}

// give makes the key manager give out the key, like one that was restored from a backup.
func (k *closedKit) give() {
	size := 32
	if k.suite == cipher.SuiteOTP {
		size = len(k.key.bits)
	}
	k.relay.KM.Put(k.key.id, k.key.bits[:size])
}

func (k *closedKit) seal(key fixedKey, body string) string {
	return mailtest.Seal(k.T, key, strings.Replace(mailtest.Text, "very secret body", body, 1), func(o *cipher.EncryptOptions) { o.Suite = k.suite })
}

// sends sends a message and checks the answer, how often it reached the next hop, and
// which reason the log has.
func (k *closedKit) sends(what, message, to, want string, delivered int, reason string) {
	k.Helper()
	k.hop.Forget()
	logged := "reason=" + reason
	if strings.Contains(reason, " ") {
		logged = `reason="` + reason + `"`
	}
	before := strings.Count(k.relay.Log.String(), logged)
	if reply := k.client.Mail(message, "alice@a.example", to); !strings.HasPrefix(reply, want) {
		k.Errorf("%s: %s to %s is answered %q, want %s", k.suite, what, to, reply, want)
	}
	if n := len(k.hop.Got()); n != delivered {
		k.Errorf("%s: %s to %s was delivered %d times, want %d", k.suite, what, to, n, delivered)
	}
	if reason != "" && strings.Count(k.relay.Log.String(), logged) != before+1 {
		k.Errorf("%s: %s to %s: the log does not have the reason %q", k.suite, what, to, reason)
	}
}

// later lets time pass for the store, and closes the keys that are due.
func (k *closedKit) later(d time.Duration) {
	k.Helper()
	k.now = k.now.Add(d)
	if err := k.store.Sweep(k.Context()); err != nil {
		k.Fatal(err)
	}
}

// Only the message that was delivered is answered 250, and no other that names its key: a
// key ID can be copied from the wire.
func TestNothingButTheMessageIsDelivered(t *testing.T) {
	const day = 24 * time.Hour
	for _, suite := range []cipher.Suite{cipher.SuiteAES256GCM, cipher.SuiteOTP} {
		k := newClosedKit(t, suite)
		two := k.seal(k.key, "message TWO, quite another one")
		rubbish := k.seal(madeUp(k.key.id, 2), "rubbish")
		respelled := k.seal(madeUp(strings.ToUpper(k.key.id), 2), "rubbish")
		cut := k.one[:strings.LastIndex(k.one, "\r\n--")-60] + k.one[strings.LastIndex(k.one, "\r\n--"):]

		k.sends("message one", k.one, bob, "250", 1, "")
		k.sends("message two, key open", two, bob, "550 5.7.1", 0, "key bound")
		k.sends("rubbish, key open", rubbish, bob, "550 5.7.7", 0, "authentication")
		alarms := k.store.Stats().BoundRefused

		k.later(8 * day)
		attempts := 0
		for what, message := range map[string]string{"message two": two, "rubbish": rubbish, "rubbish, with the ID spelled otherwise": respelled} {
			for _, rcpt := range []string{bob, carol} {
				k.sends(what+", key closed", message, rcpt, "550 5.7.1", 0, "key bound")
				attempts++
			}
		}
		if s := k.store.Stats(); s.BoundRefused-alarms != int64(attempts) || s.ClosedRefused != 0 {
			t.Errorf("%s: %d attempts are %d alarms for a bound key and %d for a closed one", suite, attempts, s.BoundRefused-alarms, s.ClosedRefused)
		}
		if suite == cipher.SuiteOTP { // a frame is whole before its key is asked for
			k.sends("a part of message one, key closed", cut, carol, "550 5.7.", 0, "")
		}
		k.sends("message one again, key closed", k.one, bob, "250", 0, "")
		k.sends("message one, key closed", k.one, carol, "550 5.7.1", 0, "key closed")
		if s := k.store.Stats(); s.ClosedRefused != 1 || s.BoundRefused-alarms != int64(attempts) {
			t.Errorf("%s: message one to another recipient raises no alarm: %+v", suite, s)
		}

		// It is the same once only the claim and the delivery are known, and the key
		// manager has the key again.
		k.give()
		k.later(61 * day)
		k.sends("message one again, tombstone gone", k.one, bob, "250", 0, "")
		k.sends("message one, tombstone gone", k.one, carol, "550 5.7.1", 0, "key reused")
		k.sends("message two, tombstone gone", two, bob, "550 5.7.1", 0, "key reused")
		k.sends("rubbish, tombstone gone", rubbish, carol, "550 5.7.1", 0, "key reused")
		k.later(100 * day)
		k.sends("message one, all forgotten but the claim", k.one, bob, "550 5.7.1", 0, "key reused")
	}
}

// If a key has opened no message when it is closed, nothing that names it was delivered
// to anyone.
func TestClosedWithoutMessage(t *testing.T) {
	for _, suite := range []cipher.Suite{cipher.SuiteAES256GCM, cipher.SuiteOTP} {
		k := newClosedKit(t, suite)
		rubbish := k.seal(madeUp(k.key.id, 2), "rubbish")
		k.sends("rubbish", rubbish, bob, "550 5.7.7", 0, "authentication")
		if err := k.store.CloseKey(t.Context(), k.key.id); err != nil {
			t.Fatal(err)
		}
		for _, message := range []string{rubbish, k.one} {
			k.sends("a message under a key that was closed unused", message, bob, "550 5.7.1", 0, "key bound")
		}
	}
}

// Over LMTP each recipient gets their own answer: 250 for whoever has the message.
func TestClosedKeyOverLMTP(t *testing.T) {
	k := newClosedKit(t, cipher.SuiteAES256GCM, mailtest.OverLMTP)
	two := k.seal(k.key, "message TWO")
	for _, c := range []struct {
		what, message, want string
		to                  []string
	}{
		{"message one", k.one, "250", []string{bob}},
		{"message one, key closed", k.one, "550 250", []string{carol, bob}},
		{"message two, key closed", two, "550 550", []string{bob, carol}},
		{"message one again, key closed", k.one, "250", []string{bob}},
	} {
		if got := k.client.Replies(c.message, c.to...); got != c.want {
			t.Errorf("%s to %v is answered %s, want %s", c.what, c.to, got, c.want)
		}
		k.later(8 * 24 * time.Hour)
	}
	if n := len(k.hop.Got()); n != 1 {
		t.Errorf("%d messages were delivered, want 1", n)
	}
}
