package etsi014

import (
	"bytes"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/internal/fakekm"
)

// A KME that refuses POST is asked with GET, and from then on with GET at once.
func TestGetOnly(t *testing.T) {
	for _, status := range []int{http.StatusMethodNotAllowed, http.StatusNotImplemented} {
		km := newFakeKME(t, fakekm.NewCA(t))
		km.refuses = map[string]int{http.MethodPost: status}
		e := etsiClient(t, Options{}, km)
		for i, requests := range []int{2, 3} {
			keys, err := e.GetKeys(t.Context(), "B", 512, 3)
			if err != nil || len(keys) != 3 || keys[0].Size() != 512 {
				t.Fatalf("%d: GetKeys = %v, %v, want three keys of 512 bits", status, keys, err)
			}
			if n := km.requests("enc_keys"); n != requests {
				t.Errorf("%d: call %d: %d requests in all, want %d: POST is tried once", status, i, n, requests)
			}
		}
		secret := fakekm.RandomBytes(32)
		for i, requests := range []int{2, 3} { // POST with GET, then GET alone
			keys, err := e.KeysByID(t.Context(), "A", km.put(secret))
			if err != nil || !bytes.Equal(keys[0].Reveal(), secret) {
				t.Fatalf("%d: KeysByID = %v, %v", status, keys, err)
			}
			if n := km.requests("dec_keys"); n != requests {
				t.Errorf("%d: call %d: %d requests in all, want %d", status, i, n, requests)
			}
		}
		if keys, err := e.KeysByID(t.Context(), "A", km.putMany(5)...); err != nil || len(keys) != 5 {
			t.Errorf("%d: %d keys of 5, %v: with GET there is one per request", status, len(keys), err)
		}
		if s := e.Stats(); s.Burned != 0 || s.Wasted != 0 {
			t.Errorf("%d: counted %+v, but no key was lost", status, s)
		}
	}
}

// The first request to a KME that refuses POST is for several keys.
func TestGetOnlyManyFirst(t *testing.T) {
	for _, status := range []int{http.StatusMethodNotAllowed, http.StatusNotImplemented} {
		km := newFakeKME(t, fakekm.NewCA(t))
		km.refuses = map[string]int{http.MethodPost: status}
		e := etsiClient(t, Options{}, km)
		if keys, err := e.KeysByID(t.Context(), "A", km.putMany(3)...); err != nil || len(keys) != 3 {
			t.Errorf("%d: %d keys of 3, %v", status, len(keys), err)
		}
		if n := km.requests("dec_keys"); n != 5 {
			t.Errorf("%d: %d requests, want POST for all, POST for the first and GET for each", status, n)
		}
	}
}

// A request that GET can't express is refused as before. If a KME refuses both methods,
// its answer to POST is reported. If it later refuses GET, POST is tried again.
func TestNoMethod(t *testing.T) {
	km := newFakeKME(t, fakekm.NewCA(t))
	km.refuses = map[string]int{http.MethodPost: 405}
	e := etsiClient(t, Options{}, km)
	if _, err := e.GetKeysWith(t.Context(), "B", []any{map[string]string{"x": "y"}}, 256, 1); !errors.Is(err, kmclient.ErrBadRequest) {
		t.Errorf("extensions with GET: %v, want %v", err, kmclient.ErrBadRequest)
	}
	if n := km.requests("enc_keys"); n != 1 {
		t.Errorf("%d requests, want one: GET has no extensions", n)
	}
	if _, err := e.GetKeys(t.Context(), "B", 256, 1); err != nil {
		t.Errorf("GET: %v", err)
	}
	km.refuses = map[string]int{http.MethodGet: 405}
	if _, err := e.GetKeys(t.Context(), "B", 256, 1); err != nil {
		t.Errorf("POST, where GET was served before: %v", err)
	}
	km.refuses[http.MethodPost] = 501
	var e501 *kmclient.Error
	if _, err := e.GetKeys(t.Context(), "B", 256, 1); !errors.As(err, &e501) || e501.Status != 501 {
		t.Errorf("neither: %v, want the answer to POST", err)
	}
}

// A web server that stands in for a KME while it is down refuses POST, and does not
// serve GET either. Once the KME is back, POST works again.
func TestNoMethodForAWhile(t *testing.T) {
	for _, status := range []int{400, 404, 500, 503} {
		for n := range 3 {
			km := newFakeKME(t, fakekm.NewCA(t))
			e := etsiClient(t, Options{}, km)
			ids := km.putMany(n + 1)
			km.refuses = map[string]int{http.MethodPost: 405, http.MethodGet: status}
			for range n {
				_, errGet := e.GetKeys(t.Context(), "B", 256, 1)
				if _, errFind := e.KeysByID(t.Context(), "A", ids...); errGet == nil || errFind == nil {
					t.Fatalf("%d: %v and %v from a KME that is down", status, errGet, errFind)
				}
			}
			km.refuses = map[string]int{http.MethodGet: status}
			if _, err := e.GetKeys(t.Context(), "B", 256, 1); err != nil {
				t.Errorf("%d: GetKeys, after %d failures: %v", status, n, err)
			}
			if keys, err := e.KeysByID(t.Context(), "A", ids...); err != nil || len(keys) != len(ids) {
				t.Errorf("%d: %d keys of %d, after %d failures: %v", status, len(keys), len(ids), n, err)
			}
		}
	}
}

// A KME that was asked with GET but now serves only POST is asked with POST again.
func TestPostAgain(t *testing.T) {
	km := newFakeKME(t, fakekm.NewCA(t))
	e := etsiClient(t, Options{}, km)
	km.refuses = map[string]int{http.MethodPost: 405}
	if _, err := e.KeysByID(t.Context(), "A", km.putMany(1)...); err != nil {
		t.Fatal(err)
	}
	km.refuses = map[string]int{http.MethodGet: 404}
	id := km.putMany(1)[0]
	if _, err := e.KeysByID(t.Context(), "A", id); !errors.Is(err, kmclient.ErrKeyNotFound) {
		t.Errorf("with GET: %v", err)
	}
	if _, err := e.KeysByID(t.Context(), "A", id); err != nil {
		t.Errorf("the next time: %v", err)
	}
}

// A KME that wants another form of key IDs in POST than the standard's is asked with
// GET, but not one that has served POST.
func TestOtherFormOfKeyIDs(t *testing.T) {
	km := newFakeKME(t, fakekm.NewCA(t))
	km.refuses = map[string]int{http.MethodPost: 400}
	e := etsiClient(t, Options{}, km)
	if keys, err := e.KeysByID(t.Context(), "A", km.putMany(2)...); err != nil || len(keys) != 2 {
		t.Errorf("%d keys of 2, %v", len(keys), err)
	}
	if n := km.requests("dec_keys"); n != 4 {
		t.Errorf("%d requests, want POST for both, POST and GET for one, GET for the other", n)
	}
	e = etsiClient(t, Options{}, km)
	km.refuses = nil
	if _, err := e.KeysByID(t.Context(), "A", km.putMany(1)...); err != nil {
		t.Fatal(err)
	}
	km.refuses, km.count = map[string]int{http.MethodPost: 400}, map[string]int{}
	if _, err := e.KeysByID(t.Context(), "A", km.putMany(1)...); !errors.Is(err, kmclient.ErrBadRequest) || km.requests("dec_keys") != 1 {
		t.Errorf("%v after %d requests, want %v after one", err, km.requests("dec_keys"), kmclient.ErrBadRequest)
	}
}

// If the answer to a GET for keys is lost on a kept connection, the GET is not silently
// repeated, as net/http would do: the keys in the answer are counted, and known to be
// gone.
func TestGetIsNotRepeatedUnseen(t *testing.T) {
	km := newFakeKME(t, fakekm.NewCA(t))
	km.refuses = map[string]int{http.MethodPost: http.StatusMethodNotAllowed}
	e := etsiClient(t, Options{}, km)
	ids := km.putMany(2)
	loseNext := func(op string) {
		after := km.requests(op)
		km.setHook(func(asked string, n int, w http.ResponseWriter, body []byte) bool {
			lost := asked == op && n == after+1
			if lost {
				km.serve(op, httptest.NewRecorder(), body)
				cut(w)
			}
			return lost
		})
	}
	if _, err := e.GetKeys(t.Context(), "B", 256, 1); err != nil {
		t.Fatal(err)
	}
	loseNext("enc_keys")
	if keys, err := e.GetKeys(t.Context(), "B", 256, 1); err != nil || len(keys) != 1 {
		t.Errorf("GetKeys = %v, %v, want a key that was asked for anew", keys, err)
	}
	if s := e.Stats(); s.Burned != 1 {
		t.Errorf("counted %+v, want one burned: the answer with it was lost", s)
	}
	if _, err := e.KeysByID(t.Context(), "A", ids[0]); err != nil {
		t.Fatal(err)
	}
	loseNext("dec_keys")
	if _, err := e.KeysByID(t.Context(), "A", ids[1]); !errors.Is(err, kmclient.ErrKeyNotFound) {
		t.Errorf("KeysByID: %v, want %v", err, kmclient.ErrKeyNotFound)
	}
	if s := e.Stats(); s.Gone != 1 {
		t.Errorf("counted %+v, want one gone: the answer with it was lost", s)
	}
}

// A GET has no body, and does not announce one.
func TestGetHasNoBody(t *testing.T) {
	km := newFakeKME(t, fakekm.NewCA(t))
	km.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet && (r.ContentLength != 0 || r.Header.Get("Content-Type") != "" || len(r.TransferEncoding) > 0) {
			t.Errorf("%s has a body of %d bytes, %v, %v", r.URL.Path, r.ContentLength, r.TransferEncoding, r.Header)
		}
		km.ServeHTTP(w, r)
	})
	km.refuses = map[string]int{http.MethodPost: http.StatusMethodNotAllowed}
	if _, err := etsiClient(t, Options{}, km).GetKeys(t.Context(), "B", 256, 1); err != nil {
		t.Fatal(err)
	}
}
