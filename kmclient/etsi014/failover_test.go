package etsi014

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/internal/fakekm"
)

// What the first of two KMEs does with a request, by name.
var troubles = map[string]func(km *fakeKME, w http.ResponseWriter){
	"503":      func(_ *fakeKME, w http.ResponseWriter) { fakekm.Answer(503, "")(w, nil) },
	"500 HTML": func(_ *fakeKME, w http.ResponseWriter) { fakekm.Answer(500, "<html>")(w, nil) },
	"401":      func(_ *fakeKME, w http.ResponseWriter) { fakekm.Answer(401, "")(w, nil) },
	"404":      func(_ *fakeKME, w http.ResponseWriter) { fakekm.Answer(404, "<html>")(w, nil) },
	"502":      func(_ *fakeKME, w http.ResponseWriter) { fakekm.Answer(502, "<html>")(w, nil) },
	"400": func(_ *fakeKME, w http.ResponseWriter) {
		fakekm.Answer(400, `{"message":"size shall be a multiple of 8"}`)(w, nil)
	},
	"exhausted": func(_ *fakeKME, w http.ResponseWriter) { fakekm.Answer(503, `{"message":"no keys available"}`)(w, nil) },
	"cut":       func(_ *fakeKME, w http.ResponseWriter) { cut(w) },
	"half": func(_ *fakeKME, w http.ResponseWriter) {
		w.Header().Set("Content-Length", "200")
		_, _ = io.WriteString(w, `{"keys":[{"key_ID"`)
	},
	"slow":       func(_ *fakeKME, w http.ResponseWriter) { time.Sleep(shortTime + 200*time.Millisecond); cut(w) },
	"200 broken": func(_ *fakeKME, w http.ResponseWriter) { fakekm.Answer(200, `{"keys":[{}]}`)(w, nil) },
	"closed":     nil, // there is no server
}

// shortTime is the time-out of clients whose KME is too slow.
const shortTime = 600 * time.Millisecond

// hurry makes the first KME of a client time out soon, once it is connected.
func hurry(t *testing.T, e *Client) {
	t.Helper()
	if _, err := e.Status(t.Context(), "B"); err != nil {
		t.Fatal(err)
	}
	e.kmes[0].caller.Timeout = shortTime
}

func trouble(km *fakeKME, name string) {
	if troubles[name] == nil {
		km.Close()
	}
	km.setHook(func(op string, _ int, w http.ResponseWriter, _ []byte) bool {
		troubles[name](km, w)
		return true
	})
}

func TestFailover(t *testing.T) {
	for name, want := range map[string]struct {
		get            error // of GetKeys for one key; nil: the second KME gives it
		first          int   // requests that the first KME gets for it
		burned, wasted int64
		byID           error
		firstByID      int // requests that the first KME gets for a key that the second has
	}{
		"503":        {nil, 1, 0, 0, nil, 1},
		"500 HTML":   {nil, 1, 0, 0, nil, 1},
		"401":        {nil, 1, 0, 0, nil, 1},
		"404":        {nil, 1, 0, 0, nil, 1},
		"exhausted":  {nil, 1, 0, 0, nil, 1},
		"closed":     {nil, 0, 0, 0, nil, 0},
		"400":        {kmclient.ErrBadRequest, 1, 0, 0, nil, 2}, // with POST and GET
		"200 broken": {kmclient.ErrBadKey, 1, 0, 1, nil, 1},
		"502":        {nil, 1, 1, 0, nil, 1},
		"cut":        {nil, 1, 1, 0, nil, 1},
		"half":       {nil, 1, 1, 0, nil, 1},
		"slow":       {nil, 1, 1, 0, nil, 1},
	} {
		t.Run(name, func(t *testing.T) {
			ca := fakekm.NewCA(t)
			first, second := newFakeKME(t, ca), newFakeKME(t, ca)
			e := etsiClient(t, Options{}, first, second)
			hurry(t, e)
			trouble(first, name)
			ctx := t.Context()

			if _, err := e.Status(ctx, "B"); err != nil {
				if name != "200 broken" { // "200 broken" is a status of sorts
					t.Errorf("Status: %v, want that of the second KME", err)
				}
			}
			e.kmes[0].down.Store(0)
			keys, err := e.GetKeys(ctx, "B", 256, 1)
			if !errors.Is(err, want.get) || err == nil != (want.get == nil) || err == nil && len(keys) != 1 {
				t.Errorf("GetKeys = %v, %v, want %v", keys, err, want.get)
			}
			if n := first.requests("enc_keys"); n != want.first {
				t.Errorf("the first KME was asked for keys %d times, want %d", n, want.first)
			}
			if s := e.Stats(); s.Burned != want.burned || s.Wasted != want.wasted {
				t.Errorf("counted %+v, want %d burned, %d wasted", s, want.burned, want.wasted)
			}
			e.kmes[0].down.Store(0)
			secret := fakekm.RandomBytes(32)
			keys, err = e.KeysByID(ctx, "B", second.put(secret))
			if name == "200 broken" {
				return // the answer had a key that was not asked for
			}
			if !errors.Is(err, want.byID) || err == nil && !bytes.Equal(keys[0].Reveal(), secret) {
				t.Errorf("KeysByID = %v, %v, want the second KME's key", keys, err)
			}
			if n := first.requests("dec_keys"); n != want.firstByID {
				t.Errorf("the first KME was asked for the key %d times, want %d", n, want.firstByID)
			}
		})
	}
}

// A KME that accepts connections but never answers leaves the others some of the
// caller's time, and is then asked last.
func TestStatusSharesTime(t *testing.T) {
	ca := fakekm.NewCA(t)
	first, second := newFakeKME(t, ca), newFakeKME(t, ca)
	e := etsiClient(t, Options{}, first, second)
	release := make(chan struct{})
	defer close(release)
	first.setHook(func(string, int, http.ResponseWriter, []byte) bool { <-release; return true })
	ask := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second) // the request's own limit is 30
		defer cancel()
		_, err := e.Status(ctx, "B")
		return err
	}
	for range 2 {
		if err := ask(); err != nil {
			t.Fatalf("Status: %v, want that of the second KME", err)
		}
	}
	if n := first.requests("status"); n != 1 || e.Stats().Failovers != 1 {
		t.Errorf("the first KME was asked %d times, %d failovers; want once", n, e.Stats().Failovers)
	}
	e.kmes[0].down.Store(0)
	second.Close()
	err := ask()
	if !errors.Is(err, kmclient.ErrUnavailable) || !strings.Contains(err.Error(), "no whole answer within") {
		t.Errorf("with the second one gone: %v, want ErrUnavailable, and that the first one gave no answer", err)
	}
}

// After a lost answer, enc_keys is asked once more, but not a third time.
func TestEncKeysAskedAnewOnce(t *testing.T) {
	for _, name := range []string{"cut", "half", "slow", "502"} {
		t.Run(name, func(t *testing.T) {
			km := newFakeKME(t, fakekm.NewCA(t))
			var log bytes.Buffer
			e := etsiClient(t, Options{Logger: slog.New(slog.NewTextHandler(&log, nil))}, km)
			hurry(t, e)
			trouble(km, name)
			_, err := e.GetKeys(t.Context(), "B", 256, 1)
			if failed, ok := errors.AsType[*kmclient.Error](err); !errors.Is(err, kmclient.ErrUnavailable) || !ok || !failed.Retry {
				t.Errorf("two lost answers: %v, want ErrUnavailable and Retry", err)
			}
			if n := km.requests("enc_keys"); n != 2 {
				t.Errorf("keys were asked for %d times, want 2", n)
			}
			if s := e.Stats(); s.Burned != 2 || strings.Count(log.String(), "lost") != 2 {
				t.Errorf("counted %+v and logged\n%s, want two burned keys", s, &log)
			}
			km.setHook(func(op string, n int, w http.ResponseWriter, _ []byte) bool {
				if op == "enc_keys" && n == 3 {
					_ = km.fresh(1, 256) // these are burned
					cut(w)
					return true
				}
				return false
			})
			keys, err := e.GetKeys(t.Context(), "B", 256, 1)
			if err != nil || keys[0].ID() != km.given[1] {
				t.Errorf("one lost answer: %v, %v, want the key of the second", keys, err)
			}
		})
	}
}

// Only one KME has a key, so "not found" is reported only if every KME says so.
func TestNotFoundNeedsAll(t *testing.T) {
	for name, want := range map[string]error{
		"closed": kmclient.ErrUnavailable, "503": kmclient.ErrUnavailable, "401": kmclient.ErrRefused, "404": kmclient.ErrKeyNotFound,
	} {
		ca := fakekm.NewCA(t)
		first, second := newFakeKME(t, ca), newFakeKME(t, ca)
		trouble(second, name)
		e := etsiClient(t, Options{}, first, second)
		if _, err := e.KeysByID(t.Context(), "B", "unknown"); !errors.Is(err, want) {
			t.Errorf("not found at the first KME, %s at the second: %v, want %v", name, err, want)
		}
		trouble(first, "exhausted")
		if name == "404" {
			continue
		}
		if _, err := e.GetKeys(t.Context(), "B", 256, 1); !errors.Is(err, want) {
			t.Errorf("no key at the first KME, %s at the second: %v, want %v", name, err, want)
		}
	}
}

// The keys of one message are collected from two KMEs.
func TestKeysAtTwoKMEs(t *testing.T) {
	ca := fakekm.NewCA(t)
	first, second := newFakeKME(t, ca), newFakeKME(t, ca)
	a, b := fakekm.RandomBytes(32), fakekm.RandomBytes(32)
	one, two := first.put(a), second.put(b)
	first.hook = func(op string, _ int, w http.ResponseWriter, _ []byte) bool { // give what it has
		if op == "dec_keys" {
			fakekm.Answer(200, keysJSON(fakekm.KeyJSON(one, a)))(w, nil)
		}
		return op == "dec_keys"
	}
	e := etsiClient(t, Options{}, first, second)
	keys, err := e.KeysByID(t.Context(), "B", two, one)
	if err != nil || !bytes.Equal(keys[0].Reveal(), b) || !bytes.Equal(keys[1].Reveal(), a) {
		t.Errorf("got %v, %v, want a key of each KME", keys, err)
	}
}

// All keys of a call come from one KME. If that has no more, the call returns those
// that came, and the next call goes to another KME.
func TestKeysOfOneCallTogether(t *testing.T) {
	ca := fakekm.NewCA(t)
	first, second := newFakeKME(t, ca), newFakeKME(t, ca)
	first.perRequest = 2
	first.hook = func(op string, n int, w http.ResponseWriter, _ []byte) bool {
		if op == "enc_keys" && n == 2 {
			fakekm.Answer(503, "")(w, nil)
			return true
		}
		return false
	}
	e := etsiClient(t, Options{}, first, second)
	keys, err := e.GetKeys(t.Context(), "B", 256, 4)
	if err != nil || len(keys) != 2 || keys[0].ID() != first.given[0] || keys[1].ID() != first.given[1] {
		t.Errorf("got %v, %v, want two keys of the first KME", keys, err)
	}
	first.setHook(func(string, int, http.ResponseWriter, []byte) bool { panic(http.ErrAbortHandler) })
	keys, err = e.GetKeys(t.Context(), "B", 256, 4)
	if err != nil || len(keys) != 4 || keys[0].ID() != second.given[0] || keys[3].ID() != second.given[3] {
		t.Errorf("got %v, %v, want four keys of the second KME", keys, err)
	}
	if s := e.Stats(); s.Wasted != 0 || s.Failovers != 1 {
		t.Errorf("counted %+v, want no key wasted, and one failover", s)
	}
}

func TestDecKeysTriedOnceMore(t *testing.T) {
	for _, name := range []string{"cut", "half", "slow", "503"} {
		t.Run(name, func(t *testing.T) {
			km := newFakeKME(t, fakekm.NewCA(t))
			e := etsiClient(t, Options{}, km)
			hurry(t, e)
			id := km.put(fakekm.RandomBytes(32))
			km.hook = func(op string, n int, w http.ResponseWriter, _ []byte) bool {
				if op == "dec_keys" && n == 1 {
					troubles[name](km, w)
					return true
				}
				return false
			}
			if keys, err := e.KeysByID(t.Context(), "B", id); err != nil || keys[0].ID() != id {
				t.Errorf("the second try: %v, %v, want the key", keys, err)
			}

			id = km.put(fakekm.RandomBytes(32))
			km.setHook(func(op string, n int, w http.ResponseWriter, _ []byte) bool {
				if op == "dec_keys" && n == 3 {
					km.mu.Lock()
					delete(km.vault, id) // delivered, but the answer is lost
					km.mu.Unlock()
					troubles[name](km, w)
					return true
				}
				return false
			})
			_, err := e.KeysByID(t.Context(), "B", id)
			wantGone := int64(1)
			if name == "503" {
				wantGone = 0
			}
			if !errors.Is(err, kmclient.ErrKeyNotFound) || e.Stats().Gone != wantGone {
				t.Errorf("a key in a lost answer: %v, counted %+v, want ErrKeyNotFound and %d gone", err, e.Stats(), wantGone)
			}

			trouble(km, name)
			before := km.requests("dec_keys")
			if _, err := e.KeysByID(t.Context(), "B", id); !errors.Is(err, kmclient.ErrUnavailable) || km.requests("dec_keys") != before+2 {
				t.Errorf("lasting trouble: %v after %d requests, want ErrUnavailable after 2", err, km.requests("dec_keys")-before)
			}
		})
	}
}

// A KME that can't be reached is asked last for a while.
func TestDownIsAskedLast(t *testing.T) {
	ca := fakekm.NewCA(t)
	first, second := newFakeKME(t, ca), newFakeKME(t, ca)
	trouble(first, "cut")
	e := etsiClient(t, Options{}, first, second)
	for range 3 {
		if _, err := e.GetKeys(t.Context(), "B", 256, 1); err != nil {
			t.Fatal(err)
		}
	}
	if n := first.requests("enc_keys"); n != 1 {
		t.Errorf("the KME in trouble was asked %d times, want once", n)
	}
	first.setHook(nil)
	second.Close()
	if _, err := e.GetKeys(t.Context(), "B", 256, 1); err != nil {
		t.Errorf("the first KME is back and the second gone: %v", err)
	}
	if e.order()[0] != e.kmes[0] {
		t.Error("the KME that has answered again is not first")
	}
}

func TestManyCallers(t *testing.T) {
	km := newFakeKME(t, fakekm.NewCA(t))
	e := etsiClient(t, Options{}, km)
	var group sync.WaitGroup
	var seen sync.Map
	for i := range 16 {
		group.Go(func() {
			for range 10 {
				peer := fmt.Sprint("SAE_", i%3)
				keys, err := e.GetKeys(t.Context(), peer, 256, 3)
				if err != nil {
					t.Error(err)
					return
				}
				ids := []string{keys[2].ID(), keys[0].ID(), keys[1].ID()}
				for _, id := range ids {
					if _, twice := seen.LoadOrStore(id, true); twice {
						t.Errorf("key %s twice", id)
					}
				}
				if got, err := e.KeysByID(t.Context(), peer, ids...); err != nil || !bytes.Equal(got[0].Reveal(), keys[2].Reveal()) {
					t.Errorf("KeysByID = %v, %v", got, err)
				}
			}
		})
	}
	group.Wait()
}
