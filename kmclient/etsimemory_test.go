package kmclient

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
)

func TestIDMemory(t *testing.T) {
	m := newIDMemory(100)
	key := func(id string) []*Key { return []*Key{NewKey(id, randomOctets(32))} }
	id := uuid.NewString()
	for _, test := range []struct {
		peer, id string
		fresh    bool
	}{
		{"B", id, true}, {"B", id, false}, {"C", strings.ToUpper(id), false}, {"C", "{" + id + "}", false},
		{"B", "7", true}, {"B", "7", false}, {"C", "7", true}, // no UUID: maybe a number of its own for each peer
	} {
		err := m.claim(test.peer, key(test.id))
		if test.fresh && err != nil || !test.fresh && !errors.Is(err, ErrBadKey) {
			t.Errorf("key %s for %s: %v, want fresh: %t", test.id, test.peer, err, test.fresh)
		}
	}
	if err := m.claim("B", append(key("8"), key("7")...)); !errors.Is(err, ErrBadKey) {
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
		keys := func(ids ...string) map[string]*Key {
			m := map[string]*Key{}
			for _, id := range ids {
				m[CanonicalID(id)] = NewKey(id, randomOctets(32))
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

		many := map[string]*Key{}
		for i := range maxKept + 10 {
			many[fmt.Sprint(i)] = NewKey(fmt.Sprint(i), randomOctets(8))
		}
		c.add("P", many)
		c.add("P", map[string]*Key{"big": NewKey("big", make([]byte, maxKeptOctets))})
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

// FuzzETSIAnswer gives any octets as an answer to a request for keys: nothing
// may panic, and keys come out as asked or not at all.
func FuzzETSIAnswer(f *testing.F) {
	const id, other = "9b42e9e2-0a1b-4c2d-8e3f-0123456789ab", "key/2"
	enc := call{op: operationGetKeys}
	dec := call{op: operationKeysByID, ids: []string{"x"}}
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		if keys, err := decodeKeyList(body); err == nil {
			found, err := match(keys, []string{id, other})
			if err == nil && (len(found) != len(keys) || len(found) > 2) {
				t.Errorf("asked for 2 keys, got %v", keys)
			}
			for at, k := range found {
				if at != id && at != other || CanonicalID(k.ID()) != at || len(k.Reveal()) == 0 {
					t.Errorf("not asked for: %s, %v", at, k)
				}
			}
			if err != nil && !errors.Is(err, ErrBadAnswer) && !errors.Is(err, ErrBadKey) {
				t.Errorf("match: %v", err)
			}
		} else if keys != nil || !errors.Is(err, ErrBadAnswer) && !errors.Is(err, ErrBadKey) {
			t.Errorf("got %d keys and %v", len(keys), err)
		}
		if s, err := decodeStatus(body); err == nil && (s.MaxKeyPerRequest < 0 || s.MaxSAEIDs < 0 || s.MinKeySize < 0) {
			t.Errorf("a negative limit: %+v", s)
		}
		for _, q := range []call{enc, dec} {
			e := refusal(q, status, nil, body)
			if e.Err == nil || len(e.Details) > maxDetails || len([]rune(e.Error())) > 1000 {
				t.Errorf("%d: %d characters, %d details: %v", status, len(e.Error()), len(e.Details), e)
			}
			if q.op == operationKeysByID && errors.Is(e, ErrKeyExhausted) || q.op == operationGetKeys && errors.Is(e, ErrKeyNotFound) {
				t.Errorf("%s: %v", q.op, e)
			}
		}
	})
}
