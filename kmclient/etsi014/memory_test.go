package etsi014

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/internal/fakekm"
)

func TestIDMemory(t *testing.T) {
	m := newIDMemory(100)
	key := func(id string) []*kmclient.Key { return []*kmclient.Key{kmclient.NewKey(id, fakekm.RandomBytes(32))} }
	id := uuid.NewString()
	for _, test := range []struct {
		peer, id string
		fresh    bool
	}{
		{"B", id, true}, {"B", id, false}, {"C", strings.ToUpper(id), false}, {"C", "{" + id + "}", false},
		{"B", "7", true}, {"B", "7", false}, {"C", "7", true}, // no UUID: maybe a number of its own for each peer
	} {
		err := m.claim(test.peer, key(test.id))
		if test.fresh && err != nil || !test.fresh && !errors.Is(err, kmclient.ErrBadKey) {
			t.Errorf("key %s for %s: %v, want fresh: %t", test.id, test.peer, err, test.fresh)
		}
	}
	if err := m.claim("B", append(key("8"), key("7")...)); !errors.Is(err, kmclient.ErrBadKey) {
		t.Errorf("a new and an old key: %v, want ErrBadKey", err)
	}
	if err := m.claim("B", key("8")); err != nil {
		t.Errorf("a key that came with an old one and was not used: %v", err)
	}
	for i := range 1000 {
		if err := m.claim("B", key(fmt.Sprint("n", i))); err != nil {
			t.Fatal(err)
		}
		m.note("B", key("n0")) // once it is forgotten, it is new again
	}
	if len(m.known) != 100 || len(m.ring) != 100 {
		t.Errorf("%d IDs are known and %d in the ring, want 100", len(m.known), len(m.ring))
	}
	if err := m.claim("B", key("n999")); err == nil {
		t.Error("the last ID is forgotten")
	}
}

func TestKeptKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var wasted atomic.Int64
		c := newKeptKeys(time.Hour, func(n int) { wasted.Add(int64(n)) })
		keys := func(ids ...string) map[string]*kmclient.Key {
			m := map[string]*kmclient.Key{}
			for _, id := range ids {
				m[kmclient.CanonicalID(id)] = kmclient.NewKey(id, fakekm.RandomBytes(32))
			}
			return m
		}
		early, late := keys("a", "b"), keys("c")
		c.add("P", early)
		time.Sleep(30 * time.Minute)
		c.add("P", late)
		if got := c.take("P", []string{"a", "x"}); len(got) != 1 || got["a"] != early["a"] {
			t.Errorf("took %v, want a", got)
		}
		if got := c.take("P", []string{"a"}); len(got) != 0 {
			t.Errorf("took %v a second time", got)
		}
		time.Sleep(31 * time.Minute)
		synctest.Wait()
		c.mu.Lock()
		if len(c.keys) != 1 || early["b"].Reveal() != nil || late["c"].Reveal() == nil || wasted.Load() != 1 {
			t.Errorf("after an hour %d keys are there and %d wiped, want the late one and the early one", len(c.keys), wasted.Load())
		}
		c.mu.Unlock()
		if early["a"].Reveal() == nil {
			t.Error("a key that was given away is wiped")
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if c.count() != 0 || wasted.Load() != 2 || c.timer != nil || c.octets != 0 {
			t.Errorf("all are too old: %d keys, %d octets, timer %v", c.count(), c.octets, c.timer)
		}

		many := map[string]*kmclient.Key{}
		for i := range maxKept + 10 {
			many[fmt.Sprint(i)] = kmclient.NewKey(fmt.Sprint(i), fakekm.RandomBytes(8))
		}
		c.add("P", many)
		c.add("P", map[string]*kmclient.Key{"big": kmclient.NewKey("big", make([]byte, maxKeptOctets))})
		if c.count() > maxKept || c.octets > maxKeptOctets {
			t.Errorf("%d keys, %d octets: more than allowed", c.count(), c.octets)
		}
		c.close()
		last := keys("z")
		c.add("P", last)
		if c.count() != 0 || last["z"].Reveal() != nil || c.timer != nil {
			t.Errorf("closed, and %d keys are there", c.count())
		}
	})
}
