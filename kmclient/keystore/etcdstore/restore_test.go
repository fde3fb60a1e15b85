package etcdstore_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keystore"
	"github.com/qkdmail/qkdmail/kmclient/keystore/etcdstore/etcdtest"
)

// A cluster that was restored from a snapshot has the ID that it had and gives
// revisions out again, so that another state of a record has the same version. A
// Store that was opened before changes nothing there, and says why, whatever it is
// asked for first and also when the cluster has come as far again.
func TestRestored(t *testing.T) {
	c := etcdtest.Start(t, etcdtest.Options{})
	s := openStore(t, options(c, ""))
	snapshot := c.Snapshot()
	put(t, s, record("key", "bound to a message"))
	before := get(t, s, "key")
	put(t, s, record("later", "v"))
	calls := map[string]func(keystore.Store) error{
		"Apply": func(s keystore.Store) error {
			return s.Apply(t.Context(), keystore.Change{Old: before, New: record("key", "delivered")})
		},
		"Apply of what is as it was": func(s keystore.Store) error {
			return s.Apply(t.Context(), keystore.Change{Old: before, New: before})
		},
		"Get":     func(s keystore.Store) error { return second(s.Get(t.Context(), name("key"))) },
		"List":    func(s keystore.Store) error { return second(s.List(t.Context(), keystore.Name{}, 10)) },
		"Due":     func(s keystore.Store) error { return second(s.Due(t.Context(), "km", "sae", time.Now(), 10)) },
		"Compact": func(s keystore.Store) error { return s.Compact(t.Context()) },
	}
	opened := map[string]keystore.Store{}
	for what := range calls {
		opened[what] = openStore(t, options(c, ""))
	}
	c.Restore(snapshot)

	now := openStore(t, options(c, ""))
	put(t, now, record("key", "bound to another message"))
	if again := get(t, now, "key"); again.Version != before.Version {
		t.Fatalf("version %d, want %d again, or this tells nothing", again.Version, before.Version)
	}
	refuse := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, kmclient.ErrStore) || !strings.Contains(err.Error(), "restored from a snapshot") {
			t.Errorf("%s: got %v, want an ErrStore that says what happened", what, err)
		}
	}
	for what, call := range calls {
		refuse(what, call(opened[what]))
	}
	for i := range 5 {
		put(t, now, record(fmt.Sprint(i), "v"))
	}
	for what, call := range calls {
		refuse(what+", afterwards", call(opened[what]))
	}
	if r := get(t, now, "key"); string(r.Value) != "bound to another message" {
		t.Errorf("the record was changed: %q", r.Value)
	}
}

// Somebody else has compacted up to a revision that a Store has not seen yet.
func TestCompactedByOthers(t *testing.T) {
	t.Parallel()
	c := etcdtest.Start(t, etcdtest.Options{})
	s, other := openStore(t, options(c, "")), openStore(t, options(c, ""))
	put(t, s, record("a", "v"))
	for i := range 3 {
		put(t, other, record(fmt.Sprint(i), "v"))
	}
	if err := other.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	put(t, s, record("b", "v"))
	if get(t, other, "b") == nil {
		t.Error("it is not there")
	}
}
