package etsi014

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/internal/fakekm"
)

// A keeper keeps what it is handed.
type keeper struct {
	mu   sync.Mutex
	fail error
	got  map[string][]byte
	n    int // calls
}

func (k *keeper) keep(peer string, keys []*kmclient.Key) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.n++
	for _, key := range keys {
		k.got[peer+" "+key.ID()] = bytes.Clone(key.Reveal())
	}
	kmclient.WipeAll(keys)
	return k.fail
}

func (k *keeper) has(ids ...string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, id := range ids {
		if k.got["B "+id] == nil {
			return false
		}
	}
	return len(k.got) == len(ids)
}

// keeping returns a client of a KME that gives out two keys a request.
func keeping(t *testing.T) (*Client, *fakeKME, *keeper) {
	km := newFakeKME(t, fakekm.NewCA(t))
	km.perRequest = 2
	e := etsiClient(t, Options{}, km)
	hurry(t, e)
	k := &keeper{got: map[string][]byte{}}
	e.KeepWith(k.keep)
	return e, km, k
}

func (km *fakeKME) putMany(n int) (ids []string) {
	for range n {
		ids = append(ids, km.put(fakekm.RandomBytes(32)))
	}
	return ids
}

// The keys of each request are handed over before the next one, and the caller
// gets all of them whole.
func TestKeepsEachRequest(t *testing.T) {
	e, km, k := keeping(t)
	ids := km.putMany(5)
	km.setHook(func(op string, n int, _ http.ResponseWriter, _ []byte) bool {
		if op == "dec_keys" && !k.has(ids[:2*(n-1)]...) {
			t.Errorf("request %d is made while keys of the one before are in memory only", n)
		}
		return false
	})
	keys, err := e.KeysByID(t.Context(), "B", ids...)
	if err != nil || len(keys) != 5 || len(keys[0].Reveal()) != 32 || !bytes.Equal(keys[0].Reveal(), k.got["B "+ids[0]]) {
		t.Fatalf("%v, %v", keys, err)
	}
	if !k.has(ids[:4]...) || k.n != 2 {
		t.Errorf("%d handed over in %d calls, want 4, since the last request is the caller's", len(k.got), k.n)
	}
	km.setHook(nil)
	one, err := e.KeysByID(t.Context(), "B", km.put(fakekm.RandomBytes(32)))
	if err != nil || len(one) != 1 || k.n != 2 {
		t.Errorf("%v, %v; handed over in %d calls, want no more", one, err, k.n)
	}
}

// Keys of a call that fails are handed over, and none waits in memory.
func TestKeepsPartOfACall(t *testing.T) {
	e, km, k := keeping(t)
	ids := append(km.putMany(2), "unknown")
	if _, err := e.KeysByID(t.Context(), "B", ids...); !errors.Is(err, kmclient.ErrKeyNotFound) {
		t.Errorf("got %v, want ErrKeyNotFound", err)
	}
	if s := e.Stats(); !k.has(ids[:2]...) || s.Kept != 0 || s.Wasted != 0 {
		t.Errorf("%d handed over, counted %+v", len(k.got), s)
	}
}

// While what comes can't be kept no more is fetched.
func TestStopsWhereNothingIsKept(t *testing.T) {
	e, km, k := keeping(t)
	k.fail = errors.New("disk full")
	ids := km.putMany(5)
	_, err := e.KeysByID(t.Context(), "B", ids...)
	if failed, ok := errors.AsType[*kmclient.Error](err); !errors.Is(err, kmclient.ErrStore) || !ok || !failed.Retry || !errors.Is(err, k.fail) {
		t.Errorf("got %v, want a temporary ErrStore", err)
	}
	if n := km.requests("dec_keys"); n != 1 || !k.has(ids[:2]...) {
		t.Errorf("%d requests, %d handed over", n, len(k.got))
	}
}

// What comes when its caller has given up is handed over.
func TestKeepsLateKeys(t *testing.T) {
	e, km, k := keeping(t)
	ids := km.putMany(1)
	asked, late := make(chan struct{}), make(chan struct{})
	km.setHook(func(op string, _ int, _ http.ResponseWriter, _ []byte) bool {
		if op == "dec_keys" {
			close(asked)
			<-late
		}
		return false
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-asked; cancel() }()
	if _, err := e.KeysByID(ctx, "B", ids...); !errors.Is(err, kmclient.ErrUnavailable) {
		t.Errorf("got %v, want ErrUnavailable", err)
	}
	close(late)
	for end := time.Now().Add(10 * time.Second); !k.has(ids...); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("a late key was not handed over")
		}
	}
}

// A KME that reads IDs more generously than we do, as Java's UUID.fromString
// takes parts without leading zeros, gives out and deletes a key under an ID that
// a forged message spells so. It is there for the message that it belongs to.
func TestKeepsWhatWasNotAskedFor(t *testing.T) {
	const id, spelled = "0b42e9e2-5f7a-4b8e-9d3c-1f2a3b4c5d6e", "b42e9e2-5f7a-4b8e-9d3c-1f2a3b4c5d6e"
	octets := fakekm.RandomBytes(32)
	lenient := func(km *fakeKME) {
		km.setHook(func(op string, n int, w http.ResponseWriter, body []byte) bool {
			switch {
			case op != "dec_keys":
				return false
			case n == 1 && strings.Contains(string(body), spelled):
				fakekm.Answer(200, keysJSON(fakekm.KeyJSON(id, octets), fakekm.KeyJSON("empty", nil)))(w, nil)
			default:
				fakekm.Answer(404, `{"message":"key not found"}`)(w, nil)
			}
			return true
		})
	}
	t.Run("handed over", func(t *testing.T) {
		e, km, k := keeping(t)
		lenient(km)
		if _, err := e.KeysByID(t.Context(), "B", spelled); !errors.Is(err, kmclient.ErrBadAnswer) && !errors.Is(err, kmclient.ErrBadKey) {
			t.Errorf("got %v, want the answer refused", err)
		}
		if !k.has(id) || !bytes.Equal(k.got["B "+id], octets) {
			t.Errorf("the key was wiped, though the KME has it no more; handed over: %d", len(k.got))
		}
	})
	t.Run("in memory", func(t *testing.T) {
		km := newFakeKME(t, fakekm.NewCA(t))
		e := etsiClient(t, Options{}, km)
		lenient(km)
		_, _ = e.KeysByID(t.Context(), "B", spelled)
		keys, err := e.KeysByID(t.Context(), "B", id)
		if err != nil || !bytes.Equal(keys[0].Reveal(), octets) {
			t.Errorf("got %v, %v, want the key that came before; counted %+v", keys, err, e.Stats())
		}
		if s := e.Stats(); s.Wasted != 1 {
			t.Errorf("counted %+v, want only the empty key wasted", s)
		}
	})
}
