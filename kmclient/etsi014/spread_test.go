package etsi014

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/internal/fakekm"
)

// The keys of one message are collected from two KMEs, even if each KME refuses to give
// any because it does not have all.
func TestKeysAtTwoKMEsThatRefuse(t *testing.T) {
	for name, at := range map[string]string{"half": "1122", "in turn": "1212", "first alone": "1222", "last alone": "1112"} {
		ca := fakekm.NewCA(t)
		kmes := map[byte]*fakeKME{'1': newFakeKME(t, ca), '2': newFakeKME(t, ca)}
		e := etsiClient(t, Options{}, kmes['1'], kmes['2'])
		var ids []string
		var secret [][]byte
		for i := range at {
			secret = append(secret, fakekm.RandomBytes(32))
			ids = append(ids, kmes[at[i]].put(secret[i]))
		}
		keys, err := e.KeysByID(t.Context(), "B", ids...)
		if err != nil || len(keys) != 4 {
			t.Errorf("%s: %v, %v, want all four keys", name, keys, err)
			continue
		}
		for i, k := range keys {
			if !bytes.Equal(k.Reveal(), secret[i]) {
				t.Errorf("%s: key %d is a different one", name, i)
			}
		}
	}
	// Not every unknown key is asked for one by one.
	ca := fakekm.NewCA(t)
	first, second := newFakeKME(t, ca), newFakeKME(t, ca)
	e := etsiClient(t, Options{}, first, second)
	ids := []string{first.put(fakekm.RandomBytes(32))}
	for i := range 100 {
		ids = append(ids, fmt.Sprint("unknown-", i))
	}
	keys, err := e.KeysByID(t.Context(), "B", ids...)
	if !errors.Is(err, kmclient.ErrKeyNotFound) || len(keys) != 1 || keys[0].ID() != ids[0] {
		t.Errorf("one key of 101: %v, %v, want ErrKeyNotFound and that key", keys, err)
	}
	if n := first.requests("dec_keys") + second.requests("dec_keys"); n > 6 {
		t.Errorf("100 unknown keys took %d requests, want 2 for all, then 1 for the known and 2 for the first unknown", n)
	}
}

// A KME that reports no limits, because its status fails, is asked for fewer keys.
func TestLimitsThatAreNotTold(t *testing.T) {
	for _, limit := range []int{1, 3} {
		km := answeringKME(t, "status", 500, "")
		km.perRequest = limit
		e := etsiClient(t, Options{}, km)
		keys, err := e.GetKeys(t.Context(), "B", 256, 20)
		if err != nil || len(keys) != 20 {
			t.Fatalf("%d keys per request: %v, %v, want 20 keys", limit, keys, err)
		}
		var ids []string
		for _, k := range keys {
			ids = append(ids, k.ID())
		}
		if again, err := e.KeysByID(t.Context(), "B", ids...); err != nil || len(again) != 20 {
			t.Errorf("%d IDs per request: %v, %v, want 20 keys", limit, again, err)
		}
		if s := e.Stats(); s.Wasted != 0 || s.Burned != 0 {
			t.Errorf("%d keys per request: counted %+v, want nothing wasted", limit, s)
		}
	}
}
