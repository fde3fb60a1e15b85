package etsi014

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/internal/fakekm"
)

// checkWhole checks that each key is usable by itself.
func checkWhole(t *testing.T, keys []*kmclient.Key) {
	t.Helper()
	for _, k := range keys {
		if err := kmclient.CheckKeys([]*kmclient.Key{k}, 0, 1); err != nil {
			t.Errorf("a key that came with an error: %v", err)
		}
	}
}

// checkArrived checks that keys have these IDs, in this order, and are whole.
func checkArrived(t *testing.T, keys []*kmclient.Key, ids ...string) {
	t.Helper()
	checkWhole(t, keys)
	for i, id := range ids {
		if len(keys) != len(ids) || keys[i].ID() != id {
			t.Errorf("got %v with the error, want %v", keys, ids)
			return
		}
	}
}

// Keys that came before a request of the same call failed are returned with the error:
// the KME no longer has them.
func TestKeysWithAnError(t *testing.T) {
	for name, test := range map[string]struct {
		answer func(w http.ResponseWriter)
		want   error
	}{
		"failure":   {fail(500, ""), kmclient.ErrUnavailable},
		"not found": {fail(400, `{"message":"one or more keys specified are not found on KME"}`), kmclient.ErrKeyNotFound},
		"not JSON":  {fail(200, "<html>"), kmclient.ErrBadAnswer},
		"cut":       {cut, kmclient.ErrUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			km := newFakeKME(t, fakekm.NewCA(t))
			km.perRequest = 2
			e := etsiClient(t, Options{}, km)
			ids := km.putMany(5)
			km.setHook(func(op string, n int, w http.ResponseWriter, _ []byte) bool {
				if op == "dec_keys" && n > 1 {
					test.answer(w)
				}
				return op == "dec_keys" && n > 1
			})
			keys, err := e.KeysByID(t.Context(), "B", ids...)
			if !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
			checkArrived(t, keys, ids[:2]...)
			if s := e.Stats(); name != "not JSON" && s.Wasted != 0 {
				t.Errorf("counted %+v, want nothing wasted", s)
			}
		})
	}
}

func fail(status int, body string) func(http.ResponseWriter) {
	return func(w http.ResponseWriter) { fakekm.Answer(status, body)(w, nil) }
}

// A caller whose context ends gets the keys that have come by then, and no more are
// asked for.
func TestKeysBeforeTheEndOfTheContext(t *testing.T) {
	km := newFakeKME(t, fakekm.NewCA(t))
	km.perRequest = 2
	e := etsiClient(t, Options{}, km)
	ids := km.putMany(5)
	ctx, cancel := context.WithCancel(t.Context())
	release := make(chan struct{})
	defer close(release)
	km.setHook(func(op string, n int, _ http.ResponseWriter, _ []byte) bool {
		if op == "dec_keys" && n == 2 {
			cancel()
			<-release
		}
		return false
	})
	keys, err := e.KeysByID(ctx, "B", ids...)
	if !errors.Is(err, context.Canceled) || !errors.Is(err, kmclient.ErrUnavailable) {
		t.Errorf("got %v, want context.Canceled", err)
	}
	checkArrived(t, keys, ids[:2]...)
	if n := km.requests("dec_keys"); n != 2 {
		t.Errorf("%d requests, want 2", n)
	}
	if keys, err := e.KeysByID(ctx, "B", "x"); keys != nil || !errors.Is(err, context.Canceled) || km.requests("dec_keys") != 2 {
		t.Errorf("a caller whose context had ended: %v, %v", keys, err)
	}
}

// Some KMEs read IDs more generously than we do: Java's UUID.fromString takes parts
// without leading zeros. If a forged message spells an ID in this way, such a KME gives
// out and deletes the key. The key comes with the error, for the message that it
// belongs to, and no other KME is asked.
func TestKeysThatWereNotAskedFor(t *testing.T) {
	const id, spelled = "0b42e9e2-5f7a-4b8e-9d3c-1f2a3b4c5d6e", "b42e9e2-5f7a-4b8e-9d3c-1f2a3b4c5d6e"
	secret := fakekm.RandomBytes(32)
	ca := fakekm.NewCA(t)
	km, other := newFakeKME(t, ca), newFakeKME(t, ca)
	e := etsiClient(t, Options{}, km, other)
	km.setHook(func(op string, _ int, w http.ResponseWriter, body []byte) bool {
		if op == "dec_keys" && strings.Contains(string(body), spelled) {
			fakekm.Answer(200, keysJSON(fakekm.KeyJSON(id, secret), fakekm.KeyJSON("empty", nil)))(w, nil)
		}
		return op == "dec_keys"
	})
	keys, err := e.KeysByID(t.Context(), "B", spelled)
	if !errors.Is(err, kmclient.ErrBadAnswer) && !errors.Is(err, kmclient.ErrBadKey) {
		t.Errorf("got %v, want the answer refused", err)
	}
	checkArrived(t, keys, id)
	if len(keys) == 1 && !bytes.Equal(keys[0].Reveal(), secret) {
		t.Error("a different key")
	}
	if s := e.Stats(); s.Wasted != 1 || other.requests("dec_keys") != 0 {
		t.Errorf("counted %+v, want only the empty key wasted; the other KME was asked %d times", s, other.requests("dec_keys"))
	}
}
