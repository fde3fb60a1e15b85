package keystore_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keystore"
	"github.com/qkdmail/qkdmail/kmclient/keystore/internal/engine"
)

// sealed counts the usable sealed records in a report.
func sealed(r *keystore.Report) int {
	n := r.Messages
	for _, of := range r.Keys {
		n += of
	}
	return n
}

func TestCheck(t *testing.T) {
	k := newKit(t, closing(keystore.After(0)))
	ids := k.sent(300)
	k.get(k.Store, ids...)
	k.bind(k.Store, "m", ids[:20]...)
	k.deliver(k.Store, ids[0], "a@x", "b@x")
	if err := k.CloseKey(t.Context(), ids[0]); err != nil {
		t.Fatal(err)
	}
	if _, err := k.GetKeys(t.Context(), "A", 256, 7); err != nil {
		t.Fatal(err)
	}
	r, err := k.Check(t.Context())
	want := fmt.Sprint(map[kmclient.State]int{kmclient.StateInUse: 280, kmclient.StateUsed: 19, kmclient.StateClosed: 1})
	if err != nil || fmt.Sprint(r.Keys) != want || r.Messages != 1 || r.Claims != 307 || r.Damaged != 0 || r.Damages != nil {
		t.Errorf("%+v, %v", r, err)
	}
}

// An attacker moves a value to another record, changes one, and adds one of an unknown
// kind.
func TestCheckDamaged(t *testing.T) {
	k := newKit(t, nil)
	ids := k.sent(4)
	k.get(k.Store, ids...)
	k.bind(k.Store, "m", ids...)
	k.deliver(k.Store, ids[0], "a@x")
	store := k.mem.Open(nil)
	read := func(id string) *engine.Record {
		records, err := store.Get(t.Context(), engine.Name{Kind: engine.Receive, KM: "km", SAE: "B", ID: id})
		if err != nil || records[0] == nil {
			t.Fatal(records, err)
		}
		return records[0]
	}
	changes := []engine.Change{{New: &engine.Record{Name: engine.Name{Kind: "other", ID: "x"}, Value: []byte("x")}}}
	for id, value := range map[string][]byte{ids[1]: read(ids[2]).Value, ids[3]: {1, 2, 3}} {
		old := read(id)
		changes = append(changes, engine.Change{Old: old, New: &engine.Record{Name: old.Name, Value: value}})
	}
	if err := store.Apply(t.Context(), changes...); err != nil {
		t.Fatal(err)
	}
	r, err := k.Check(t.Context())
	if err != nil || r.Damaged != 3 || len(r.Damages) != 3 || r.Keys[kmclient.StateUsed] != 2 || r.Messages != 1 {
		t.Fatalf("%+v, %v", r, err)
	}
	for _, d := range r.Damages {
		known := d.ID == "x" && d.Reason == "of an unknown kind" ||
			(d.ID == ids[1] || d.ID == ids[3]) && strings.HasPrefix(d.Reason, "can't be unsealed")
		if !known {
			t.Errorf("%+v", d)
		}
	}
}

func TestOwners(t *testing.T) {
	k := newKit(t, nil)
	if owners, err := k.Owners(t.Context()); err != nil || len(owners) != 0 {
		t.Error(owners, err)
	}
	want := []keystore.Owner{{"", ""}, {"", "B"}, {"km", "A"}, {"km", "B"}, {"other", "é"}}
	for _, o := range want {
		m := k.another(func(_ *kit, opts *keystore.Options) { opts.KM, opts.SAE = o.KM, o.SAE })
		ids := k.sent(3)
		k.get(m, ids...)
		k.bind(m, "m", ids[0])
		k.deliver(m, ids[0], "a@x")
	}
	if owners, err := k.Owners(t.Context()); err != nil || !slices.Equal(owners, want) {
		t.Errorf("%v, %v, want %v", owners, err, want)
	}
	if err := k.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := k.Owners(t.Context()); !errors.Is(err, kmclient.ErrStore) {
		t.Error(err)
	}
}

// List has the same deliveries as Show, page by page.
func TestListDeliveries(t *testing.T) {
	k := newKit(t, nil)
	ids := k.sent(200)
	k.get(k.Store, ids...)
	k.bind(k.Store, "pad", ids[:100]...)
	k.bind(k.Store, "held back", ids[100:150]...)
	k.deliver(k.Store, ids[99], "a@x", "b@x")
	n := 0
	for info, err := range k.List(t.Context()) {
		shown, err2 := k.show(k.Store, info.ID)
		if err != nil || err2 != nil || info != shown {
			t.Fatalf("listed %+v, %v, shown %+v, %v", info, err, shown, err2)
		}
		if info.Recipients > 0 != slices.Contains(ids[:100], info.ID) {
			t.Errorf("%+v", info)
		}
		n++
	}
	if n != 200 {
		t.Errorf("%d keys", n)
	}
	for range k.List(t.Context()) {
		break // List stops then
	}
}
