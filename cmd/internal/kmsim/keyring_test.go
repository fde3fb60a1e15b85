package kmsim

import (
	"bytes"
	"crypto/rand"
	"errors"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/qkdmail/qkdmail/kmclient"
)

// fresh makes keys of 256 bits, and also returns their IDs.
func fresh(n int) (keys []*kmclient.Key, ids []string) {
	for range n {
		secret := make([]byte, 32)
		_, _ = rand.Read(secret)
		keys = append(keys, kmclient.NewKey(uuid.NewString(), secret))
		ids = append(ids, keys[len(keys)-1].ID())
	}
	return keys, ids
}

func put(t *testing.T, r *keyring, g grant, n int) ([]*kmclient.Key, []string) {
	t.Helper()
	keys, ids := fresh(n)
	if err := r.put(g, keys...); err != nil {
		t.Fatal(err)
	}
	return keys, ids
}

func same(got, want []*kmclient.Key) bool {
	if len(got) != len(want) {
		return false
	}
	for i := range want {
		if got[i].ID() != want[i].ID() || !bytes.Equal(got[i].Reveal(), want[i].Reveal()) {
			return false
		}
	}
	return true
}

func TestKeyringGetDelete(t *testing.T) {
	r := newKeyring(10)
	keys, ids := put(t, r, grant{}, 2)
	for range 2 { // a key that was wiped by its caller is still there
		k, err := r.get(strings.ToUpper(ids[1]))
		if err != nil || !same([]*kmclient.Key{k}, keys[1:]) {
			t.Fatalf("get = %v, %v, want the second key", k, err)
		}
		k.Wipe()
	}
	if err := r.delete(strings.ToUpper(ids[0])); err != nil {
		t.Errorf("delete: %v", err)
	}
	if err := r.delete(ids[0]); !errors.Is(err, kmclient.ErrKeyNotFound) {
		t.Errorf("delete of a deleted key: %v, want ErrKeyNotFound", err)
	}
	if k, err := r.get(ids[0]); k != nil || !errors.Is(err, kmclient.ErrKeyNotFound) {
		t.Errorf("get of a deleted key = %v, %v, want ErrKeyNotFound", k, err)
	}
	if n := r.count[""]; n != 1 {
		t.Errorf("%d keys counted, want 1", n)
	}
}

func TestKeyringFetch(t *testing.T) {
	r := newKeyring(10)
	keys, ids := put(t, r, grant{"A/B", "A", []string{"B", "C"}}, 2)
	for name, c := range map[string]struct {
		master, reader string
		ids            []string
		want           error
	}{
		"not a reader":          {"A", "D", ids, errNotGranted},
		"the master itself":     {"A", "A", ids, errNotGranted},
		"another master":        {"D", "B", ids, errNotGranted},
		"one missing":           {"A", "B", []string{ids[0], "none", ids[1]}, kmclient.ErrKeyNotFound},
		"one missing, one not":  {"A", "D", []string{"none", ids[1]}, errNotGranted},
		"one twice":             {"A", "B", []string{ids[0], ids[0]}, kmclient.ErrKeyNotFound},
		"one twice, spelled so": {"A", "B", []string{ids[0], strings.ToUpper(ids[0])}, kmclient.ErrKeyNotFound},
	} {
		if got, err := r.fetch(c.master, c.reader, false, c.ids); got != nil || !errors.Is(err, c.want) {
			t.Errorf("%s: %v, %v, want %v", name, got, err, c.want)
		}
	}
	for _, step := range []struct {
		reader string
		left   int
	}{{"B", 2}, {"C", 0}} {
		for _, keep := range []bool{true, true, false} {
			got, err := r.fetch("A", step.reader, keep, []string{ids[1], ids[0]})
			if err != nil || !same(got, []*kmclient.Key{keys[1], keys[0]}) {
				t.Fatalf("%s, keep %t: %v, %v, want both keys", step.reader, keep, got, err)
			}
		}
		if _, err := r.fetch("A", step.reader, false, ids); !errors.Is(err, kmclient.ErrKeyNotFound) {
			t.Errorf("%s fetches a second time: %v, want ErrKeyNotFound", step.reader, err)
		}
		if n := r.count["A/B"]; n != step.left || len(r.keys) != step.left {
			t.Errorf("%d keys counted and %d held once %s has its copies, want %d", n, len(r.keys), step.reader, step.left)
		}
	}
}

func TestKeyringLimit(t *testing.T) {
	r := newKeyring(3)
	put(t, r, grant{pool: "p"}, 2)
	two, ids := fresh(2)
	if err := r.put(grant{pool: "p"}, two...); !errors.Is(err, errFull) {
		t.Errorf("a fourth key: %v, want errFull", err)
	}
	if _, err := r.get(ids[0]); !errors.Is(err, kmclient.ErrKeyNotFound) {
		t.Errorf("one of two keys is there, though both were refused: %v", err)
	}
	put(t, r, grant{pool: "p"}, 1)
	put(t, r, grant{pool: "q"}, 3)
}

func TestKeyringEarlierForget(t *testing.T) {
	r := newKeyring(10)
	first, _ := put(t, r, grant{pool: "p"}, 2)
	put(t, r, grant{pool: "q"}, 1)
	if err := r.put(grant{pool: "p"}, kmclient.NewKey("short", []byte("secret"))); err != nil {
		t.Fatal(err)
	}
	second, _ := put(t, r, grant{pool: "p"}, 2)
	if got := r.earlier("p", 256, 3); !same(got, append(first, second[0])) {
		t.Errorf("earlier = %v, want the three oldest keys of 256 bits", got)
	}
	r.forget("p")
	if got := r.earlier("p", 256, 3); len(got) != 0 || len(r.keys) != 1 || r.count["p"] != 0 {
		t.Errorf("%v, %d keys held and %d counted after forget, want only those of the other pool", got, len(r.keys), r.count["p"])
	}
}
