package etsi014

import (
	"errors"
	"fmt"
	"strings"
	"testing"

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
		{"B", "7", true}, {"B", "7", false}, {"C", "7", true}, // not a UUID: maybe numbered separately for each peer
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
		t.Errorf("a key that came with an old one, and was not used: %v", err)
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
