package keystore_test

import (
	"strings"
	"testing"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/etsi014"
	"github.com/qkdmail/qkdmail/kmclient/keystore"
)

// A strayKM hands keys over that came without their caller.
type strayKM struct {
	*fakeKM
	keep etsi014.KeepFunc
}

func (s *strayKM) KeepWith(keep etsi014.KeepFunc) { s.keep = keep }

// A wrapKM is a key manager around another one.
type wrapKM struct{ kmclient.KeyManager }

func (w wrapKM) Unwrap() kmclient.KeyManager { return w.KeyManager }

func newStrayKit(t *testing.T) (*kit, *strayKM) {
	k := newKit(t, nil)
	km := &strayKM{fakeKM: k.km}
	k.Store = k.before(wrapKM{km}, nil)
	return k, km
}

func stray(id, octets string) *kmclient.Key { return kmclient.NewKey(id, []byte(octets)) }

// Keys that came without their caller are there when he asks again, and what
// can't be used is not kept.
func TestStrays(t *testing.T) {
	k, km := newStrayKit(t)
	good := stray("a", "octets of a good key")
	keys := []*kmclient.Key{stray("b", "00000000"), good, stray("c", strings.Repeat("01", keystore.MaxKeySize/16+1))}
	if err := km.keep("A", keys); err != nil {
		t.Fatal(err)
	}
	if good.Reveal() != nil {
		t.Error("the keys are not wiped")
	}
	if err := km.keep("A", []*kmclient.Key{stray("a", "octets of a good key")}); err != nil { // once more
		t.Error(err)
	}
	if got := k.get(k.another(nil), "a"); string(got[0].Reveal()) != "octets of a good key" {
		t.Error("another key")
	}
	for _, id := range []string{"b", "c"} {
		k.wantState(id, "")
	}
	if s := k.Stats(); s.Fetched != 1 || s.Stored != 1 || k.km.calls != 0 {
		t.Errorf("%+v", s)
	}
}

// Those that can't be stored wait, and are stored with the next call; after
// Close they can't.
func TestStraysWait(t *testing.T) {
	k, km := newStrayKit(t)
	store := k.engine
	store.set(errDisk, false)
	for range 2 {
		if err := km.keep("A", []*kmclient.Key{stray("a", "octets of a key")}); err == nil {
			t.Error("stored, on a full disk")
		}
	}
	if s := k.Stats(); s.Waiting != 1 || s.Fetched != 1 {
		t.Errorf("%+v", s)
	}
	store.set(nil, false)
	k.get(k.Store, k.sent(1)...)
	k.get(k.another(nil), "a")
	if err := k.Close(t.Context()); err != nil {
		t.Error(err)
	}
	store.set(errDisk, false)
	late := stray("late", "octets of a key")
	if err := km.keep("A", []*kmclient.Key{late}); err == nil || late.Reveal() != nil || k.Stats().Waiting != 0 {
		t.Errorf("after Close: %v, %+v", err, k.Stats())
	}
	if !strings.Contains(k.log.String(), "they are lost") {
		t.Error(k.log)
	}
}
