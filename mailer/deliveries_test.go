package mailer

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keystore"
	"github.com/qkdmail/qkdmail/kmclient/keystore/storetest"
)

// deletingKM gives each key out once by its ID, as ETSI's do.
type deletingKM struct{ *testKM }

func (m deletingKM) DeletesOnDelivery() bool { return true }

func (m deletingKM) KeysByID(ctx context.Context, peer string, ids ...string) ([]*kmclient.Key, error) {
	keys, err := m.testKM.KeysByID(ctx, peer, ids...)
	if err == nil {
		m.mu.Lock()
		defer m.mu.Unlock()
		for _, id := range ids {
			delete(m.keys, kmclient.CanonicalID(id))
		}
	}
	return keys, err
}

// startStored runs a decrypt relay with a key store.
func startStored(t *testing.T, hop string, o keystore.Options, changes ...func(*Config)) (*testRelay, *keystore.Store) {
	t.Helper()
	km := newTestKM()
	o.Engine, o.Key, o.SAE = storetest.NewMemory().Open(), keystore.Keys(keystore.NewStoreKey()), "SAE_B"
	m, err := keystore.Open(t.Context(), deletingKM{km}, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close(context.Background()) })
	return startRelayBehind(t, km, m, DirectionDecrypt, hop, changes...), m
}

// A slowStore is a key manager that also takes its time to remember deliveries.
type slowStore struct {
	*testKM
	wait time.Duration
}

func (s slowStore) Delivered(_ context.Context, _ string, _ kmclient.Identity, _ string, rcpts ...string) ([]bool, error) {
	time.Sleep(s.wait)
	return make([]bool, len(rcpts)), nil
}

func (s slowStore) RecordDelivered(context.Context, string, kmclient.Identity, string, ...string) error {
	time.Sleep(s.wait)
	return nil
}

// What is reported as the wait for keys has the deliveries in it, which are
// asked for and recorded in the same store.
func TestDeliveriesAreTimed(t *testing.T) {
	km, hop := newTestKM(), startHop(t)
	store := slowStore{km, 20 * time.Millisecond}
	r := startRelayBehind(t, km, store, DirectionDecrypt, hop.addr())
	seen := &recorder{}
	r.Observe(seen)
	connect(t, r).mail(seal(t, km, testMessage), "alice@a.example", "bob@b.example")
	hop.one()
	if got := seen.last(t, 1); got.KeyWait < 2*store.wait || got.Total < got.KeyWait {
		t.Errorf("a message waited %v for keys, of %v in all; the store took %v twice", got.KeyWait, got.Total, store.wait)
	}
}

// A key that its key manager has deleted opens its message until everybody has
// got it, and nobody gets it twice.
func TestDeliveredOnce(t *testing.T) {
	hop := startHop(t)
	r, _ := startStored(t, hop.addr(), keystore.Options{})
	for _, suite := range []cipher.Suite{cipher.SuiteAES256GCM, cipher.SuiteOTP} {
		sealed := seal(t, r.km, testMessage, func(o *cipher.EncryptOptions) { o.Suite = suite })
		c := connect(t, r)

		// Refused by the next hop: the key has left the key manager, and stays.
		hop.mu.Lock()
		hop.script = func(line string) string {
			if line == "DOT" {
				return "451 4.2.0 mailbox busy"
			}
			return ""
		}
		hop.mu.Unlock()
		c.want("451 4.2.0", c.mail(sealed, "alice@a.example", "bob@b.example"))
		hop.behave()
		hop.forget()
		c.want("250", c.mail(sealed, "alice@a.example", "bob@b.example"))
		if got := hop.one().data; !strings.HasSuffix(got, testMessage) {
			t.Errorf("%s: %q", suite, got)
		}

		// Again to the same: 250, and not delivered.
		hop.forget()
		c.want("250", c.mail(sealed, "alice@a.example", "bob@b.example"))
		hop.none()

		// One who has it and one who has not: only the latter.
		c.want("250", c.mail(sealed, "alice@a.example", "bob@b.example", "carol@b.example"))
		if to := hop.one().rcpts; len(to) != 1 || !strings.Contains(to[0], "carol@b.example") {
			t.Errorf("%s: delivered to %q, want carol only", suite, to)
		}
		hop.forget()
		c.want("250", c.mail(sealed, "alice@a.example", "carol@b.example", "bob@b.example"))
		hop.none()
	}
	if _, asked := r.km.count(); asked != 2 {
		t.Errorf("the key manager was asked for %d keys, want 2", asked)
	}
}

// Another message under a key that has opened one is refused: somebody may have
// copied its ID.
func TestKeyBoundToItsMessage(t *testing.T) {
	hop := startHop(t)
	r, m := startStored(t, hop.addr(), keystore.Options{})
	c := connect(t, r)
	first := seal(t, r.km, testMessage)
	second := sealAgain(t, r.km, "From: Alice <alice@a.example>\r\n\r\nanother\r\n")
	c.want("250", c.mail(first, "alice@a.example", "bob@b.example"))
	hop.forget()
	c.want("550 5.7.1", c.mail(second, "alice@a.example", "carol@b.example"))
	hop.none()
	if m.Stats().BoundRefused == 0 {
		t.Errorf("the attack is not counted: %+v", m.Stats())
	}
}

// A message that names a key that was sent with is refused for good, and the key
// manager is not asked: whoever saw the ID on the wire can name it.
func TestKeyThatWasSentWith(t *testing.T) {
	hop := startHop(t)
	r, m := startStored(t, hop.addr(), keystore.Options{})
	keys, err := m.GetKeys(t.Context(), "SAE_A", 256, 1)
	if err != nil {
		t.Fatal(err)
	}
	kmclient.WipeAll(keys)
	c := connect(t, r)
	for n := range 2 {
		c.want("550 5.7.1", c.mail(sealAgain(t, r.km, testMessage), "alice@a.example", "bob@b.example"))
		if s := m.Stats(); int(s.Reused) != n+1 || s.ClosedRefused+s.BoundRefused != 0 {
			t.Errorf("after message %d: %+v, want an alarm for each as reused", n, s)
		}
	}
	hop.none()
	if _, asked := r.km.count(); asked != 0 || !strings.Contains(r.log.String(), `reason="key reused"`) {
		t.Errorf("the key manager was asked for %d keys, want none, and the reason in the log", asked)
	}
}

// A closed key: who has the message gets 250, a new recipient 550.
func TestClosedKey(t *testing.T) {
	now := time.Now()
	hop := startHop(t)
	r, m := startStored(t, hop.addr(), keystore.Options{Close: keystore.AfterDelivery(), Now: func() time.Time { return now }})
	c := connect(t, r)
	sealed := seal(t, r.km, testMessage)
	c.want("250", c.mail(sealed, "alice@a.example", "bob@b.example"))
	now = now.Add(time.Hour)
	if err := m.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	hop.forget()
	c.want("250", c.mail(sealed, "alice@a.example", "bob@b.example"))
	if n := m.Stats().ClosedRefused; n != 0 {
		t.Errorf("a mail system that tries once more is %d alarms", n)
	}
	c.want("550 5.7.1", c.mail(sealed, "alice@a.example", "carol@b.example"))
	if n := m.Stats().ClosedRefused; n != 1 {
		t.Errorf("a new recipient is %d alarms, want 1", n)
	}
	hop.none()
}

// sealAgain encrypts a message under the key that was given out last, as a
// broken sender would, or one who has stolen it.
func sealAgain(t *testing.T, km *testKM, message string) string {
	t.Helper()
	var b strings.Builder
	w, err := cipher.Encrypt(t.Context(), &b, lastKey{km}, &cipher.EncryptOptions{SAE: "SAE_A", Peer: "SAE_B", LineEnd: cipher.LineEndCRLF})
	if err != nil {
		t.Fatal(err)
	}
	if _, err = w.Write([]byte(message)); err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// lastKey gives out the last key once more.
type lastKey struct{ *testKM }

func (k lastKey) GetKeys(context.Context, string, int, int) ([]*kmclient.Key, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	id := fmt.Sprintf("00000000-0000-4000-8000-%012d", k.given)
	return []*kmclient.Key{kmclient.NewKey(id, bytes.Clone(k.keys[id]))}, nil
}
