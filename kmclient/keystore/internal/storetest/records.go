package storetest

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/qkdmail/qkdmail/kmclient/keystore/internal/engine"
)

func testGet(k *kit) {
	k.apply(engine.Change{New: record("a", "1")}, engine.Change{New: record("c", "3")})
	got, err := k.Get(k.Context(), name("c"), name("b"), name("a"))
	if err != nil || len(got) != 3 || got[1] != nil || got[0] == nil || got[2] == nil ||
		string(got[0].Value) != "3" || string(got[2].Value) != "1" {
		k.Errorf("got %v, %v", got, err)
	}
	if got, err := k.Get(k.Context()); err != nil || len(got) != 0 {
		k.Errorf("no name: %v, %v", got, err)
	}
}

// Names and values are bytes, and every part of a name counts.
func testValues(k *kit) {
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	names := []engine.Name{
		{Kind: engine.Receive}, {Kind: engine.Message}, {Kind: engine.Message, KM: "a"}, {Kind: engine.Message, SAE: "a"},
		{Kind: engine.Message, ID: "a"}, {Kind: engine.Message, ID: "A"}, {Kind: engine.Message, KM: "a/b"},
		{Kind: engine.Message, KM: "a", SAE: "b"}, {Kind: engine.Message, KM: "a", ID: "/b"},
		{Kind: engine.Message, KM: string(all[1:128]), SAE: "%2F'\"", ID: strings.Repeat("é", 127)},
	}
	for i, n := range names {
		value := append([]byte{byte(i)}, all...)
		k.apply(engine.Change{New: &engine.Record{Name: n, Value: value}})
	}
	got, err := k.Get(k.Context(), names...)
	if err != nil {
		k.Fatal(err)
	}
	for i, r := range got {
		if r == nil || r.Name != names[i] || r.Value[0] != byte(i) || !bytes.Equal(r.Value[1:], all) {
			k.Errorf("%v: %v", names[i], r)
		}
	}
	big := bytes.Repeat([]byte("big "), 1<<18)
	k.apply(engine.Change{New: record("big", string(big))}, engine.Change{New: record("none", "")})
	k.want(k.Engine, "big", string(big))
	k.want(k.Engine, "none", "")
}

func testConflict(k *kit) {
	k.apply(engine.Change{New: record("a", "1")})
	k.wantConflict(engine.Change{New: record("a", "2")})
	first := k.get(k.Engine, "a")
	k.apply(engine.Change{Old: first, New: record("a", "2")})
	k.wantConflict(engine.Change{Old: first, New: record("a", "3")})
	k.wantConflict(engine.Change{Old: first})
	k.want(k.Engine, "a", "2")
	second := k.get(k.Engine, "a")
	k.apply(engine.Change{Old: second})
	k.wantConflict(engine.Change{Old: second, New: record("a", "3")})
	if r := k.get(k.Engine, "a"); r != nil {
		k.Errorf("deleted, and still there: %v", r.Name)
	}
}

// With one conflict, nothing of a batch is done.
func testAtomic(k *kit) {
	k.apply(engine.Change{New: record("a", "1")}, engine.Change{New: record("d", "4")})
	d := k.get(k.Engine, "d")
	k.wantConflict(engine.Change{Old: d, New: record("d", "5")}, engine.Change{New: record("b", "2")},
		engine.Change{New: record("a", "2")}, engine.Change{New: record("c", "3")})
	k.want(k.Engine, "a", "1")
	k.want(k.Engine, "d", "4")
	if k.get(k.Engine, "b") != nil || k.get(k.Engine, "c") != nil {
		k.Error("a part of the batch was done")
	}
}

// A change with the same Old and New only checks.
func testCheck(k *kit) {
	k.apply(engine.Change{New: record("guard", "1")})
	guard := k.get(k.Engine, "guard")
	k.apply(engine.Change{Old: guard, New: guard}, engine.Change{New: record("a", "1")})
	k.apply(engine.Change{Old: guard, New: guard}, engine.Change{New: record("b", "1")})
	k.apply(engine.Change{Old: guard, New: record("guard", "2")})
	k.wantConflict(engine.Change{Old: guard, New: guard}, engine.Change{New: record("c", "1")})
	k.want(k.Engine, "guard", "2")
}

// A record that was written can be changed again without being read.
func testVersion(k *kit) {
	k.apply(engine.Change{New: record("guard", "1")})
	guard := k.get(k.Engine, "guard")
	a, b := record("a", "1"), record("b", "1")
	k.apply(engine.Change{Old: guard, New: guard}, engine.Change{New: a}, engine.Change{New: b})
	for range 2 {
		for _, r := range []*engine.Record{a, b} {
			if got := k.get(k.Engine, r.ID); got == nil || got.Version != r.Version {
				k.Errorf("%s was written as version %d, and read as %+v", r.ID, r.Version, got)
			}
		}
		old := a
		a = record("a", "2")
		a.Due = time.Unix(1e9, 0)
		k.apply(engine.Change{Old: old, New: a}, engine.Change{Old: b, New: b})
		k.wantConflict(engine.Change{Old: old, New: record("a", "3")})
	}
	k.want(k.Engine, "a", "2")
}

// A record that was deleted and made again is another record.
func testNoABA(k *kit) {
	k.apply(engine.Change{New: record("a", "1")})
	old := k.get(k.Engine, "a")
	k.apply(engine.Change{Old: old})
	k.apply(engine.Change{New: record("a", "1")})
	k.wantConflict(engine.Change{Old: old, New: record("a", "2")})
}

func testList(k *kit) {
	var want []engine.Name
	for _, kind := range []engine.Kind{engine.Store, engine.Receive} {
		for _, km := range []string{"b", "a", ""} {
			for _, sae := range []string{"y", "x!"} {
				for _, id := range []string{"1", "10", "2"} {
					n := engine.Name{Kind: kind, KM: km, SAE: sae, ID: id}
					k.apply(engine.Change{New: &engine.Record{Name: n, Value: []byte(id)}})
					want = append(want, n)
				}
			}
		}
	}
	slices.SortFunc(want, engine.Name.Compare)
	for _, limit := range []int{1, 5, 12, 100} {
		var got []engine.Name
		for after := (engine.Name{}); ; {
			page, err := k.List(k.Context(), after, limit)
			if err != nil || len(page) > limit {
				k.Fatalf("%d records, %v", len(page), err)
			}
			for _, r := range page {
				got, after = append(got, r.Name), r.Name
				if string(r.Value) != r.ID || r.Version == 0 {
					k.Errorf("listed incompletely: %v", r)
				}
			}
			if len(page) < limit {
				break
			}
		}
		if !slices.Equal(got, want) {
			k.Errorf("limit %d: got %v", limit, got)
		}
	}
}

// Claims are only names, and stay forever.
func testClaims(k *kit) {
	const u = "9b42e9e2-0a1b-4c2d-8e3f-0123456789ab"
	ids := []string{u, strings.ToUpper(u), "{" + u + "}", strings.ReplaceAll(u, "-", ""), "00000000-0000-0000-0000-000000000000",
		"ffffffff-ffff-ffff-ffff-ffffffffffff", "0123456789abcdef", "a", "é/%", strings.Repeat("x", 255), "MOCK-KEY-00000001-20251012195642"}
	want := map[engine.Name]bool{}
	claim := func(km, sae, id string) engine.Change {
		n := engine.Name{Kind: engine.Claim, KM: km, SAE: sae, ID: id}
		want[n] = true
		return engine.Change{New: &engine.Record{Name: n}}
	}
	k.apply(engine.Change{New: record("before", "1")}, engine.Change{New: &engine.Record{Name: engine.Name{Kind: engine.Store, ID: "after"}}})
	for _, scope := range [][2]string{{"km", "b"}, {"km", "a"}, {"", ""}} {
		for _, id := range ids {
			k.apply(claim(scope[0], scope[1], id))
		}
	}
	k.wantConflict(engine.Change{New: record("c", "1")}, claim("km", "a", "fresh"), claim("km", "a", u))
	delete(want, claim("km", "a", "fresh").Name())
	if k.get(k.Engine, "c") != nil {
		k.Error("a part of the batch was done")
	}
	other := k.open()
	for n := range want {
		records, err := other.Get(k.Context(), n)
		if err != nil || records[0] == nil || records[0].Name != n || records[0].Version == 0 || len(records[0].Value) != 0 || !records[0].Due.IsZero() {
			k.Fatalf("%v: %v, %v", n, records, err)
		}
	}
	for _, n := range []engine.Name{{Kind: engine.Claim, ID: "fresh"}, {Kind: engine.Claim, KM: "km", ID: u}, {Kind: engine.Receive, KM: "km", SAE: "a", ID: u}} {
		if records, err := k.Get(k.Context(), n); err != nil || records[0] != nil {
			k.Errorf("%v: %v, %v", n, records[0], err)
		}
	}
	for _, limit := range []int{1, 7, 11, 100} {
		seen := map[engine.Name]bool{}
		last := engine.Name{}
		for after := (engine.Name{}); ; {
			page, err := k.List(k.Context(), after, limit)
			if err != nil || len(page) > limit {
				k.Fatalf("%d records, %v", len(page), err)
			}
			for _, r := range page {
				scope := r.Name
				scope.ID = ""
				if seen[r.Name] || scope.Compare(last) < 0 {
					k.Fatalf("limit %d: %v comes twice, or after %v", limit, r.Name, last)
				}
				seen[r.Name], last, after = true, scope, r.Name
			}
			if len(page) < limit {
				break
			}
		}
		for n := range want {
			if !seen[n] {
				k.Errorf("limit %d: %v is not listed", limit, n)
			}
		}
		if len(seen) != len(want)+2 {
			k.Errorf("limit %d: %d records, want %d", limit, len(seen), len(want)+2)
		}
	}
}

func testDue(k *kit) {
	start := time.Unix(1_700_000_000, 0)
	for i := range 10 {
		r := record(fmt.Sprint(i), "v")
		if i > 0 { // 0 is never due
			r.Due = start.Add(time.Duration(10-i) * time.Second)
		}
		k.apply(engine.Change{New: r})
	}
	for _, other := range []engine.Name{{KM: "km"}, {KM: "km", SAE: "other"}, {KM: "kmsae"}, {SAE: "sae"}} {
		k.apply(engine.Change{New: &engine.Record{Name: other, Due: start}})
	}
	check := func(after time.Duration, limit int, want ...string) {
		k.Helper()
		var got []string
		records, err := k.Due(k.Context(), "km", "sae", start.Add(after), limit)
		for _, r := range records {
			got = append(got, r.ID)
			if r.Version == 0 || string(r.Value) != "v" {
				k.Errorf("incomplete: %v", r)
			}
		}
		if err != nil || !slices.Equal(got, want) {
			k.Errorf("due after %v: %v (%v), want %v", after, got, err, want)
		}
	}
	check(0, 10)
	check(3*time.Second, 10, "9", "8", "7")
	check(time.Hour, 2, "9", "8")
	later := record("9", "v")
	later.Due = start.Add(time.Minute)
	k.apply(engine.Change{Old: k.get(k.Engine, "9"), New: later}, engine.Change{Old: k.get(k.Engine, "8"), New: record("8", "v")},
		engine.Change{Old: k.get(k.Engine, "7")})
	check(5*time.Second, 10, "6", "5")
	check(time.Hour, 10, "6", "5", "4", "3", "2", "1", "9")
	if r := k.get(k.Engine, "9"); r == nil || !r.Due.Equal(later.Due) {
		k.Errorf("due: %v", r)
	}
}

// One Apply takes as much as Limits allows.
func testLimits(k *kit) {
	l := k.Limits()
	if l.Changes < 8 || l.Bytes < 1<<20+64<<10 {
		k.Fatalf("too low: %+v", l)
	}
	n := min(l.Changes, 10_000)
	value := strings.Repeat("v", min((l.Bytes-300*n)/n, 64<<10))
	changes := make([]engine.Change, n)
	for i := range changes {
		changes[i].New = record(fmt.Sprint(i), value)
	}
	k.apply(changes...)
	k.want(k.Engine, fmt.Sprint(n-1), value)
	claims := make([]engine.Change, n)
	for i := range claims {
		claims[i].New = &engine.Record{Name: engine.Name{Kind: engine.Claim, ID: fmt.Sprint(i)}}
	}
	k.apply(claims...)
	one := strings.Repeat("v", 1<<20)
	k.apply(engine.Change{New: record("big", one)})
	k.want(k.Engine, "big", one)
}
