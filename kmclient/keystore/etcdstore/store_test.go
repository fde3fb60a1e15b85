package etcdstore_test

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/kmclient/keystore"
	"github.com/qkdmail/qkdmail/kmclient/keystore/etcdstore"
	"github.com/qkdmail/qkdmail/kmclient/keystore/etcdstore/etcdtest"
	"github.com/qkdmail/qkdmail/kmclient/keystore/storetest"
)

// options returns how to open a store in a cluster.
func options(c *etcdtest.Cluster, prefix string) etcdstore.Options {
	o := etcdstore.Options{Endpoints: c.Endpoints(), Prefix: prefix}
	o.CAFile, o.CertFile, o.KeyFile = c.Files()
	return o
}

func openStore(t testing.TB, o etcdstore.Options) *etcdstore.Store {
	t.Helper()
	s, err := etcdstore.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func name(id string) keystore.Name {
	return keystore.Name{Kind: keystore.KindReceive, KM: "km", SAE: "sae", ID: id}
}

func record(id, value string) *keystore.Record {
	return &keystore.Record{Name: name(id), Value: []byte(value)}
}

// put makes a new record.
func put(t testing.TB, s keystore.Store, r *keystore.Record) {
	t.Helper()
	if err := s.Apply(t.Context(), keystore.Change{New: r}); err != nil {
		t.Fatal(err)
	}
}

// get returns a record, nil if there is none.
func get(t testing.TB, s keystore.Store, id string) *keystore.Record {
	t.Helper()
	records, err := s.Get(t.Context(), name(id))
	if err != nil {
		t.Fatal(err)
	}
	return records[0]
}

// The suite that every engine passes, with one node and with three.
func TestStore(t *testing.T) {
	for name, o := range map[string]etcdtest.Options{"one": {}, "three": {Nodes: 3, TLS: true}} {
		t.Run(name, func(t *testing.T) {
			c := etcdtest.Start(t, o)
			var places atomic.Int64
			storetest.Run(t, func(t *testing.T) func() (keystore.Store, error) {
				prefix := fmt.Sprintf("/suite/%d", places.Add(1))
				return func() (keystore.Store, error) { return etcdstore.Open(t.Context(), options(c, prefix)) }
			})
		})
	}
}

// What Limits says fits into a request also with the longest names, each of them
// four times in it.
func TestLongNames(t *testing.T) {
	c := etcdtest.Start(t, etcdtest.Options{})
	s := openStore(t, options(c, "/"+strings.Repeat("p", 254)))
	l := s.Limits()
	value := make([]byte, l.Octets/l.Changes-4*255)
	part := strings.Repeat("n", 252)
	var records []*keystore.Record
	for version := range 3 { // new, with another due time, deleted
		var changes []keystore.Change
		for i := range l.Changes {
			n := keystore.Name{Kind: keystore.Kind(part + "ame"), KM: part + "ame", SAE: part + "ame", ID: part + fmt.Sprintf("%03d", i)}
			change := keystore.Change{New: &keystore.Record{Name: n, Due: time.Unix(int64(1000+version), 0), Value: value}}
			if version > 0 {
				change.Old = records[i]
			}
			if version == 2 {
				change.New = nil
			}
			changes = append(changes, change)
		}
		if err := s.Apply(t.Context(), changes...); err != nil {
			t.Fatal(version, err)
		}
		var err error
		if records, err = s.Due(t.Context(), part+"ame", part+"ame", time.Unix(1000+int64(version), 0), l.Changes+1); err != nil {
			t.Fatal(err)
		}
		if want := l.Changes; len(records) != want && version < 2 {
			t.Fatalf("version %d: %d records are due, want %d", version, len(records), want)
		}
	}
	if len(records) > 0 {
		t.Errorf("%d records are due after all were deleted", len(records))
	}
}

// Stores in one cluster don't see each other, however their prefixes begin.
func TestPrefixes(t *testing.T) {
	c := etcdtest.Start(t, etcdtest.Options{})
	prefixes := []string{"/a", "/a/r", "/a/r/r", "/a/d", "/ab", "/b"}
	var stores []keystore.Store
	for _, p := range prefixes {
		stores = append(stores, openStore(t, options(c, p)))
		put(t, stores[len(stores)-1], record(p, "v"))
	}
	for i, s := range stores {
		all, err := s.List(t.Context(), keystore.Name{}, 10)
		if err != nil || len(all) != 1 || all[0].ID != prefixes[i] {
			t.Errorf("%s: %v, %v", prefixes[i], all, err)
		}
	}
}

// A long list takes many requests, of ranges that follow the density of the
// names.
func TestListLong(t *testing.T) {
	c := etcdtest.Start(t, etcdtest.Options{})
	s := openStore(t, options(c, ""))
	var want []keystore.Name
	add := func(names ...keystore.Name) {
		t.Helper()
		var changes []keystore.Change
		for _, n := range names {
			changes = append(changes, keystore.Change{New: &keystore.Record{Name: n, Value: []byte(n.ID)}})
		}
		if err := s.Apply(t.Context(), changes...); err != nil {
			t.Fatal(err)
		}
		want = append(want, names...)
	}
	for _, sae := range []string{"", "b", "\xff", "\xff\xff"} {
		for _, id := range []string{"", "0", "00", "000", "0001", "00010", "000\xff", "00\xff\xff", "\xff", "\xff\xff", "\xff\xff\xff", "\xff\xff\xff\xff", "x"} {
			n := name(id)
			n.SAE = sae
			add(n)
		}
	}
	for i := range 60 {
		var names []keystore.Name
		for j := range 40 {
			names = append(names, name(fmt.Sprintf("%04x", (i*40+j)*7919%65536)))
		}
		add(names...)
	}
	slices.SortFunc(want, keystore.Name.Compare)
	for _, limit := range []int{7, 256, 5000} {
		var got []keystore.Name
		for after := (keystore.Name{}); ; {
			some, err := s.List(t.Context(), after, limit)
			if err != nil || len(some) > limit {
				t.Fatalf("%d records, %v", len(some), err)
			}
			for _, r := range some {
				got, after = append(got, r.Name), r.Name
			}
			if len(some) < limit {
				break
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("limit %d: %d names, want %d in their order", limit, len(got), len(want))
		}
	}
}
