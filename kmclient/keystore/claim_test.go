package keystore_test

import (
	"crypto/sha256"
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keystore"
)

// sends makes the key manager give out a key ID to encrypt with, as if it had been
// restored from a backup.
func (k *kit) sends(m *keystore.Store, id string) error {
	k.Helper()
	k.km.mu.Lock()
	k.km.next = []string{id}
	k.km.mu.Unlock()
	keys, err := m.GetKeys(k.Context(), "A", 256, 1)
	if err != nil && keys != nil {
		k.Error("keys are returned with an error")
	}
	return err
}

// passes lets enough time pass for tombstones to be removed.
func (k *kit) passes(m *keystore.Store) {
	for range 3 {
		k.clock.add(100 * day)
		k.sweep(m)
	}
}

// reused wants this many alarms, in the log and in the counts of all stores that share
// it.
func (k *kit) reused(want int, managers ...*keystore.Store) {
	k.Helper()
	counted := 0
	for _, m := range managers {
		counted += int(m.Stats().Reused)
	}
	if logged := strings.Count(k.log.String(), "alarm=reused"); logged != want || counted != want {
		k.Errorf("%d alarms in the log and %d counted, want %d; log: %s", logged, counted, want, k.log)
	}
}

// No relay ever uses a received key ID to encrypt, whatever has become of the key: the
// pad would be used twice.
func TestReceivedThenSent(t *testing.T) {
	type step = func(k *kit, m *keystore.Store, id string)
	fetch := func(k *kit, m *keystore.Store, id string) { k.get(m, id) }
	deliver := func(k *kit, m *keystore.Store, id string) {
		fetch(k, m, id)
		k.bind(m, "m", id)
		k.deliver(m, id, rcpt)
	}
	for name, receive := range map[string]step{
		"not bound yet": fetch,
		"delivered":     deliver,
		"closed": func(k *kit, m *keystore.Store, id string) {
			deliver(k, m, id)
			k.clock.add(8 * day)
			k.sweep(m)
			k.wantState(id, kmclient.StateClosed)
		},
		"closed, and its tombstone gone": func(k *kit, m *keystore.Store, id string) {
			deliver(k, m, id)
			k.passes(m)
			k.wantState(id, "")
		},
		"closed without a message, and its tombstone gone": func(k *kit, m *keystore.Store, id string) {
			fetch(k, m, id)
			if err := m.CloseKey(k.Context(), id); err != nil {
				k.Fatal(err)
			}
			k.passes(m)
			k.wantState(id, "")
		},
		"waited in memory": func(k *kit, m *keystore.Store, id string) {
			k.engine.set(errDisk, false)
			_, err := m.KeysByID(k.Context(), "A", id)
			k.want(err, kmclient.ErrStore, true)
			k.engine.set(nil, false)
			k.sweep(m)
			k.wantState(id, kmclient.StateInUse)
		},
		"among more than go into one commit": func(k *kit, m *keystore.Store, id string) {
			k.get(m, append(k.sent(60), id)...)
		},
		"came with an answer that was refused": func(k *kit, m *keystore.Store, id string) {
			k.km.reorder = true
			_, err := m.KeysByID(k.Context(), "A", append(k.sent(1), id)...)
			k.want(err, kmclient.ErrBadKey, false)
		},
	} {
		t.Run(name, func(t *testing.T) {
			k := newKit(t, nil)
			id := k.sent(1)[0]
			receive(k, k.Store, id)
			other := k.another(nil)
			k.want(k.sends(k.Store, id), keystore.ErrReused, true)
			k.want(k.sends(other, id), keystore.ErrReused, true)
			k.want(k.sends(other, strings.ToUpper(id)), keystore.ErrReused, true)
			k.want(k.sends(other, "{"+id+"}"), keystore.ErrReused, true)
			k.reused(4, k.Store, other)
			if err := k.sends(other, "fresh"); err != nil {
				t.Errorf("a fresh key: %v", err)
			}
		})
	}
}

// A key ID that was used to encrypt opens no message. The key is not even fetched: anyone
// who saw the ID on the wire can name it.
func TestSentThenReceived(t *testing.T) {
	for name, spell := range map[string]func(string) string{
		"as it is":          func(id string) string { return id },
		"in upper case":     strings.ToUpper,
		"without hyphens":   func(id string) string { return strings.ReplaceAll(id, "-", "") },
		"as a URN":          func(id string) string { return "urn:uuid:" + id },
		"in braces":         func(id string) string { return "{" + id + "}" },
		"that is no UUID":   func(string) string { return "key-1" },
		"as long as it may": func(string) string { return strings.Repeat("k", kmclient.MaxIDLength) },
	} {
		t.Run(name, func(t *testing.T) {
			k := newKit(t, nil)
			id := k.sent(1)[0]
			if !strings.EqualFold(kmclient.CanonicalID(spell(id)), id) {
				id = spell(id)
			}
			if err := k.sends(k.Store, id); err != nil {
				t.Fatal(err)
			}
			managers := []*keystore.Store{k.Store, k.another(nil)}
			for _, m := range managers {
				_, err := m.KeysByID(t.Context(), "A", spell(id))
				k.want(err, keystore.ErrClaimed, false)
				k.want(err, keystore.ErrReused, false)
				_, err = m.KeysByID(t.Context(), "A", append(k.sent(3), spell(id))...) // a frame names it
				k.want(err, keystore.ErrClaimed, false)
			}
			k.reused(4, managers...)
			if k.km.calls != 0 {
				t.Errorf("the key manager was asked %d times for keys that must not be handed out", k.km.calls)
			}
			k.wantState(spell(id), "")
		})
	}
}

// The ID is used to encrypt while the key manager is still answering: its key is refused
// and wiped, and the others are stored.
func TestSentWhileFetched(t *testing.T) {
	for name, n := range map[string]int{"one key": 1, "keys for several commits": 40} {
		t.Run(name, func(t *testing.T) {
			k := newKit(t, nil)
			ids := k.sent(n)
			id := ids[n/2]
			other := k.another(nil)
			k.km.finding = func(...string) {
				k.km.finding = nil
				if err := k.sends(other, id); err != nil {
					t.Error(err)
				}
			}
			_, err := k.KeysByID(t.Context(), "A", ids...)
			k.want(err, keystore.ErrClaimed, false)
			k.reused(1, k.Store, other)
			if len(k.km.out) != n {
				t.Fatalf("%d keys were given out, want %d", len(k.km.out), n)
			}
			for _, key := range k.km.out {
				if key.Reveal() != nil {
					t.Errorf("key %s is not wiped", key.ID())
				}
			}
			if s := k.Stats(); s.Waiting != 0 || int(s.Stored) != n-1 || int(s.Fetched) != n-1 {
				t.Errorf("%+v, want %d keys stored and none waiting", s, n-1)
			}
			k.wantState(id, "")
			for _, stored := range ids {
				if stored != id {
					k.get(other, stored)
				}
			}
		})
	}
}

// Another relay uses the ID to encrypt while the key waits in memory for the store.
// Then the key is refused, and does not wait forever.
func TestSentWhileWaiting(t *testing.T) {
	k := newKit(t, nil)
	store := k.engine
	ids := k.sent(2)
	store.set(errDisk, false)
	_, err := k.KeysByID(t.Context(), "A", ids...)
	k.want(err, kmclient.ErrStore, true)
	other := k.another(nil)
	if err := k.sends(other, ids[0]); err != nil {
		t.Fatal(err)
	}
	store.set(nil, false)
	_, err = k.KeysByID(t.Context(), "A", ids[0])
	k.want(err, keystore.ErrClaimed, false)
	k.sweep(k.Store)
	if s := k.Stats(); s.Waiting != 0 || s.Stored != 1 {
		t.Errorf("%+v, want one key stored and none waiting", s)
	}
	k.get(k.Store, ids[1])
	if err := k.Close(t.Context()); err != nil {
		t.Error(err)
	}
	k.Store = k.another(nil)
	k.wantState(ids[0], "")
}

// A key that arrives with an error claims its ID, and is refused if the ID was already
// used.
func TestArrivedClaims(t *testing.T) {
	keys := []*kmclient.Key{textKey("sent", "bytes of a key"), textKey("came", "bytes of another key")}
	k, _ := newPartKit(t, keys...)
	if err := k.sends(k.Store, "sent"); err != nil {
		t.Fatal(err)
	}
	k.fails("A", "x")
	for _, key := range keys {
		if key.Reveal() != nil {
			t.Errorf("key %s is not wiped", key.ID())
		}
	}
	k.reused(1, k.Store)
	k.wantState("sent", "")
	k.wantState("came", kmclient.StateInUse)
	k.want(k.sends(k.Store, "came"), keystore.ErrReused, true)
}

// The same key again, after its tombstone is gone: it was already used.
func TestReceivedAfterTombstone(t *testing.T) {
	k := newKit(t, nil)
	k.km.keeps = true
	id := k.sent(1)[0]
	k.get(k.Store, id)
	k.bind(k.Store, "m", id)
	k.deliver(k.Store, id, rcpt)
	secret := k.km.keys[id]
	k.passes(k.Store)
	k.wantState(id, "")
	k.km.keys[id] = secret // the key manager was restored
	calls := k.km.calls
	for _, m := range []*keystore.Store{k.Store, k.another(nil)} {
		_, err := m.KeysByID(t.Context(), "A", id)
		k.want(err, keystore.ErrClaimed, false)
	}
	if k.km.calls != calls {
		t.Error("the key manager was asked")
	}
}

// Two relays fetch the same keys at the same time from a key manager that gives them to
// both: one stores them, the other finds them.
func TestStoredAtTheSameTime(t *testing.T) {
	k := newKit(t, nil)
	k.km.keeps = true
	managers := []*keystore.Store{k.Store, k.another(nil), k.another(nil)}
	for range 50 {
		ids := k.sent(10) // takes two commits
		var all sync.WaitGroup
		for _, m := range managers {
			all.Go(func() { k.get(m, ids...) })
		}
		all.Wait()
	}
	k.reused(0, managers...)
	stored := int64(0)
	for _, m := range managers {
		stored += m.Stats().Stored
	}
	if stored != 500 {
		t.Errorf("%d keys were stored, want 500", stored)
	}
}

// One relay encrypts with an ID while another receives it: exactly one of them may.
func TestSentAndReceivedAtTheSameTime(t *testing.T) {
	k := newKit(t, nil)
	other := k.another(nil)
	won := map[bool]int{}
	for range 200 {
		id := k.sent(1)[0]
		var sent, received error
		var both sync.WaitGroup
		both.Go(func() { _, received = k.KeysByID(t.Context(), "A", id) })
		both.Go(func() {
			time.Sleep(rand.N(300 * time.Microsecond)) // this side has less to do
			sent = k.sends(other, id)
		})
		both.Wait()
		if (sent == nil) == (received == nil) {
			t.Fatalf("key %s: to encrypt with: %v; to decrypt with: %v; want one of them refused", id, sent, received)
		}
		if sent != nil && !errors.Is(sent, keystore.ErrReused) || received != nil && !errors.Is(received, keystore.ErrClaimed) {
			t.Fatalf("key %s: to encrypt with: %v; to decrypt with: %v", id, sent, received)
		}
		won[sent == nil]++
	}
	t.Logf("sent with %d, received %d", won[true], won[false])
}

// Claimed is true for a key that was claimed to encrypt with, unless a receiving key
// has its name, even if the ID is made from the name of a record.
func TestClaimed(t *testing.T) {
	k := newKit(t, nil)
	k.km.next = []string{"sent-1", "received-1"}
	if _, err := k.GetKeys(t.Context(), "B", 256, 1); err != nil {
		t.Fatal(err)
	}
	ids := k.sent(1)
	if _, err := k.KeysByID(t.Context(), "B", ids...); err != nil {
		t.Fatal(err)
	}
	alias := func(id string) string { return uuid.NewHash(sha256.New(), uuid.Nil, []byte(id+"\x00B"), 8).String() }
	for _, tt := range []struct {
		peer, id string
		want     bool
	}{
		{"B", "sent-1", true},
		{"C", "sent-1", false},
		{"B", ids[0], false},
		{"B", alias(ids[0]), false},
		{"B", "never seen", false},
		{"B", "", false},
		{"B", "no\x00ID", false},
	} {
		if got, err := k.Claimed(t.Context(), tt.peer, tt.id); got != tt.want || err != nil {
			t.Errorf("%q for %s: %v, %v, want %v", tt.id, tt.peer, got, err, tt.want)
		}
	}
}
