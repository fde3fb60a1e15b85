package etsi014

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/internal/fakekm"
	"github.com/qkdmail/qkdmail/kmclient/internal/kmhttp"
)

// FuzzAnswer gives any bytes as an answer to a request for keys: nothing may panic, and
// keys come out as asked for or not at all.
func FuzzAnswer(f *testing.F) {
	const id, other = "9b42e9e2-0a1b-4c2d-8e3f-0123456789ab", "key/2"
	enc := kmhttp.Call{Op: kmhttp.OpGetKeys}
	dec := kmhttp.Call{Op: kmhttp.OpKeysByID, IDs: []string{"x"}}
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		if keys, err := kmhttp.DecodeKeyList(body); err == nil {
			found, err := match(keys, []string{id, other})
			if err == nil && (len(found) != len(keys) || len(found) > 2) {
				t.Errorf("asked for 2 keys, got %v", keys)
			}
			for at, k := range found {
				if at != id && at != other || kmclient.CanonicalID(k.ID()) != at || len(k.Reveal()) == 0 {
					t.Errorf("not asked for: %s, %v", at, k)
				}
			}
			if err != nil && !errors.Is(err, kmclient.ErrBadAnswer) && !errors.Is(err, kmclient.ErrBadKey) {
				t.Errorf("match: %v", err)
			}
		} else if keys != nil || !errors.Is(err, kmclient.ErrBadAnswer) && !errors.Is(err, kmclient.ErrBadKey) {
			t.Errorf("got %d keys and %v", len(keys), err)
		}
		if s, err := kmhttp.DecodeStatus(body); err == nil && (s.MaxKeyPerRequest < 0 || s.MaxSAEIDs < 0 || s.MinKeySize < 0) {
			t.Errorf("a negative limit: %+v", s)
		}
		for _, q := range []kmhttp.Call{enc, dec} {
			e := kmhttp.Refusal(q, status, nil, body)
			if e.Err == nil || len(e.Details) > 8 || len([]rune(e.Error())) > 1000 {
				t.Errorf("%d: %d characters, %d details: %v", status, len(e.Error()), len(e.Details), e)
			}
			if q.Op == kmhttp.OpKeysByID && errors.Is(e, kmclient.ErrKeyExhausted) || q.Op == kmhttp.OpGetKeys && errors.Is(e, kmclient.ErrKeyNotFound) {
				t.Errorf("%s: %v", q.Op, e)
			}
		}
	})
}

func keysJSON(keys ...string) string { return `{"keys":[` + strings.Join(keys, ",") + `]}` }

// answeringKME is a KME that gives this answer to one operation.
func answeringKME(t *testing.T, operation string, status int, body string) *fakeKME {
	km := newFakeKME(t, fakekm.NewCA(t))
	km.hook = func(op string, _ int, w http.ResponseWriter, _ []byte) bool {
		if op == operation {
			fakekm.Answer(status, body)(w, nil)
		}
		return op == operation
	}
	return km
}

// What a KME may answer to enc_keys for two keys of 256 bits, and what must result: the
// keys or an error, a count of wasted keys, and never a second request for keys that
// were given out.
func TestEncKeysAnswers(t *testing.T) {
	a, b := fakekm.RandomBytes(32), fakekm.RandomBytes(32)
	one, two := uuid.NewString(), uuid.NewString()
	good := keysJSON(fakekm.KeyJSON(one, a), fakekm.KeyJSON(two, b))
	for name, test := range map[string]struct {
		status int
		body   string
		want   error // nil: the two keys
		retry  bool
		wasted int64
	}{
		"good":                 {200, good, nil, false, 0},
		"more members":         {200, `{"key_container_extension":{},` + good[1:len(good)-1] + `,"x":[1]}`, nil, false, 0},
		"IDs that are no UUID": {200, keysJSON(fakekm.KeyJSON("a/1", a), fakekm.KeyJSON("a/2", b)), nil, false, 0},
		"size ignored":         {200, keysJSON(fakekm.KeyJSON(one, a[:16]), fakekm.KeyJSON(two, b[:16])), kmclient.ErrBadKey, false, 2},
		"size rounded up":      {200, keysJSON(fakekm.KeyJSON(one, append(b, a...)), fakekm.KeyJSON(two, append(a, b...))), kmclient.ErrBadKey, false, 2},
		"number ignored":       {200, keysJSON(fakekm.KeyJSON(one, a), fakekm.KeyJSON(two, b), fakekm.KeyJSON("3", fakekm.RandomBytes(32))), kmclient.ErrBadKey, false, 3},
		"none at all":          {200, `{"keys":[]}`, kmclient.ErrKeyExhausted, true, 0},
		"same ID":              {200, keysJSON(fakekm.KeyJSON(one, a), fakekm.KeyJSON(strings.ToUpper(one), b)), kmclient.ErrBadKey, false, 2},
		"same bytes":           {200, keysJSON(fakekm.KeyJSON(one, a), fakekm.KeyJSON(two, a)), kmclient.ErrBadKey, false, 2},
		"all bytes equal":      {200, keysJSON(fakekm.KeyJSON(one, a), fakekm.KeyJSON(two, make([]byte, 32))), kmclient.ErrBadKey, false, 2},
		"space in ID":          {200, keysJSON(fakekm.KeyJSON("a b", a), fakekm.KeyJSON(two, b)), kmclient.ErrBadKey, false, 2},
		"cut short":            {200, good[:len(good)-3], kmclient.ErrBadAnswer, false, 2},
		"no base64":            {200, strings.Replace(good, k64(a), k64(a)[:43]+"*", 1), kmclient.ErrBadAnswer, false, 2},
		"HTML and 200":         {200, "<html>welcome " + k64(a), kmclient.ErrBadAnswer, false, 2},
		"error and 200":        {200, `{"message":"sorry"}`, kmclient.ErrBadAnswer, false, 2},
		"too large":            {200, good + strings.Repeat(" ", 1<<20), kmclient.ErrBadAnswer, false, 2},

		"400 exhausted":         {400, `{"message":"Insufficient keys available"}`, kmclient.ErrKeyExhausted, true, 0},
		"503 exhausted":         {503, `{"message":"key pool exhausted"}`, kmclient.ErrKeyExhausted, true, 0},
		"exhausted in details":  {503, `{"message":"failed","details":[{"reason":"no keys available"}]}`, kmclient.ErrKeyExhausted, true, 0},
		"400 size":              {400, `{"message":"size shall be a multiple of 8"}`, kmclient.ErrBadRequest, false, 0},
		"400 mandatory":         {400, `{"message":"not all extension_mandatory parameters are supported"}`, kmclient.ErrBadRequest, false, 0},
		"400 mandatory options": {400, `{"message":"not all extension_mandatory request options could be met"}`, kmclient.ErrBadRequest, false, 0},
		"400 optional":          {400, `{"message":"not all extension_optional request options handled"}`, kmclient.ErrBadRequest, false, 0},
		"400 HTML":              {400, `<html>Bad Request`, kmclient.ErrBadRequest, false, 0},
		"401":                   {401, ``, kmclient.ErrRefused, false, 0},
		"401 HTML":              {401, `<html>login`, kmclient.ErrRefused, false, 0},
		"404":                   {404, `<html>`, kmclient.ErrBadAnswer, false, 0},
		"500":                   {500, `{"message":"key storage not found"}`, kmclient.ErrUnavailable, true, 0},
		"503":                   {503, ``, kmclient.ErrUnavailable, true, 0},
		"huge 500":              {500, strings.Repeat("x", 1<<20), kmclient.ErrUnavailable, true, 0},
	} {
		t.Run(name, func(t *testing.T) {
			km := answeringKME(t, "enc_keys", test.status, test.body)
			e := etsiClient(t, Options{}, km)
			keys, err := e.GetKeys(t.Context(), "B", 256, 2)
			if test.want == nil && (err != nil || !bytes.Equal(keys[0].Reveal(), a) || !bytes.Equal(keys[1].Reveal(), b)) {
				t.Fatalf("got %v, %v, want the two keys", keys, err)
			}
			if n := km.requests("enc_keys"); n != 1 {
				t.Errorf("keys were asked for %d times, want once", n)
			}
			if s := e.Stats(); s.Wasted != test.wasted || s.Burned != 0 {
				t.Errorf("counted %+v, want %d wasted and none burned", s, test.wasted)
			}
			if test.want == nil {
				return
			}
			checkFailure(t, err, test.want, test.status, test.retry)
			if keys != nil || fakekm.Shows(err.Error(), a) || strings.Contains(err.Error(), k64(a)[:8]) {
				t.Errorf("an error and %d keys, or a key in the error", len(keys))
			}
		})
	}
}

func checkFailure(t *testing.T, err, want error, status int, retry bool) {
	t.Helper()
	failed, ok := errors.AsType[*kmclient.Error](err)
	if !errors.Is(err, want) || !ok || failed.Status != status || failed.Retry != retry {
		t.Errorf("got %v, want %v with status %d and retry %t", err, want, status, retry)
	}
	if err != nil && len(err.Error()) > 800 {
		t.Errorf("the error has %d bytes: too long for a log", len(err.Error()))
	}
}

// What a KME may answer to dec_keys for the keys one and two.
func TestDecKeysAnswers(t *testing.T) {
	a, b := fakekm.RandomBytes(32), fakekm.RandomBytes(32)
	one, two, other := uuid.NewString(), uuid.NewString(), uuid.NewString()
	for name, test := range map[string]struct {
		status int
		body   string
		want   error // nil: the two keys
		tries  int
		come   int // keys with the error
		wasted int64
	}{
		"good":                {200, keysJSON(fakekm.KeyJSON(one, a), fakekm.KeyJSON(two, b)), nil, 1, 0, 0},
		"another order":       {200, keysJSON(fakekm.KeyJSON(two, b), fakekm.KeyJSON(one, a)), nil, 1, 0, 0},
		"upper case":          {200, keysJSON(fakekm.KeyJSON(strings.ToUpper(two), b), fakekm.KeyJSON(one, a)), nil, 1, 0, 0},
		"one missing":         {200, keysJSON(fakekm.KeyJSON(two, b)), kmclient.ErrKeyNotFound, 1, 1, 0},
		"none":                {200, `{"keys":[]}`, kmclient.ErrKeyNotFound, 1, 0, 0},
		"not asked for":       {200, keysJSON(fakekm.KeyJSON(one, a), fakekm.KeyJSON(other, b)), kmclient.ErrBadAnswer, 1, 2, 0},
		"the same twice":      {200, keysJSON(fakekm.KeyJSON(one, a), fakekm.KeyJSON(one, b)), kmclient.ErrBadKey, 1, 1, 1},
		"same bytes":          {200, keysJSON(fakekm.KeyJSON(one, a), fakekm.KeyJSON(two, a)), kmclient.ErrBadKey, 1, 2, 0},
		"one of another size": {200, keysJSON(fakekm.KeyJSON(one, a), `{"key_ID":"`+two+`","key":"AAECAwQFBgc=","key_size":256}`), kmclient.ErrBadKey, 1, 1, 1},
		"HTML and 200":        {200, `<html>`, kmclient.ErrBadAnswer, 1, 0, 2},
		"too large":           {200, keysJSON() + strings.Repeat(" ", 24<<20), kmclient.ErrBadAnswer, 1, 0, 2},
		"unknown 400":         {400, `{"message":"one or more keys specified are not found on KME"}`, kmclient.ErrKeyNotFound, 1, 0, 0},
		"unknown 404":         {404, `{"message":"Not Found"}`, kmclient.ErrKeyNotFound, 1, 0, 0},
		"unknown 404 HTML":    {404, `<html>`, kmclient.ErrKeyNotFound, 1, 0, 0},
		"unknown 500":         {500, `{"error":"unknown key ID"}`, kmclient.ErrKeyNotFound, 1, 0, 0},
		"unknown in details":  {400, `{"message":"bad","details":[{"key_ID":"x","why":"no such key"}]}`, kmclient.ErrKeyNotFound, 1, 0, 0},
		"400 another SAE":     {400, `{"message":"SAE_B is not known: no keys for it"}`, kmclient.ErrBadRequest, 3, 0, 0}, // then one key alone, with POST and GET
		"400 HTML":            {400, `<html>`, kmclient.ErrBadRequest, 3, 0, 0},
		"401":                 {401, ``, kmclient.ErrRefused, 1, 0, 0},
		"500":                 {500, `<html>`, kmclient.ErrUnavailable, 1, 0, 0},
		"503":                 {503, ``, kmclient.ErrUnavailable, 2, 0, 0},
		"504":                 {504, ``, kmclient.ErrUnavailable, 2, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			km := answeringKME(t, "dec_keys", test.status, test.body)
			e := etsiClient(t, Options{}, km)
			keys, err := e.KeysByID(t.Context(), "A", one, two)
			if test.want == nil && (err != nil || !bytes.Equal(keys[0].Reveal(), a) || !bytes.Equal(keys[1].Reveal(), b)) {
				t.Fatalf("got %v, %v, want the two keys in the order asked for", keys, err)
			}
			if test.want != nil {
				checkFailure(t, err, test.want, test.status, test.want == kmclient.ErrUnavailable)
				if len(keys) != test.come {
					t.Errorf("%d keys came with the error, want %d", len(keys), test.come)
				}
				checkWhole(t, keys)
			}
			if n := km.requests("dec_keys"); n != test.tries {
				t.Errorf("asked %d times, want %d", n, test.tries)
			}
			if s := e.Stats(); s.Wasted != test.wasted || s.Gone != 0 {
				t.Errorf("counted %+v, want %d wasted", s, test.wasted)
			}
		})
	}
}

// A KME that gives fewer keys than asked for is asked for the rest.
func TestFewerKeysThanAskedFor(t *testing.T) {
	km := newFakeKME(t, fakekm.NewCA(t))
	km.hook = func(op string, n int, w http.ResponseWriter, _ []byte) bool {
		if op != "enc_keys" {
			return false
		}
		_, _ = io.WriteString(w, km.fresh(1, 256))
		return true
	}
	e := etsiClient(t, Options{}, km)
	if keys, err := e.GetKeys(t.Context(), "B", 256, 3); err != nil || len(keys) != 3 || km.requests("enc_keys") != 3 {
		t.Fatalf("got %v, %v after %d requests, want 3 keys after 3", keys, err, km.requests("enc_keys"))
	}
	km.setHook(func(op string, n int, w http.ResponseWriter, _ []byte) bool {
		if op == "enc_keys" && n == 5 { // after one of three
			fakekm.Answer(400, `{"message":"no keys available"}`)(w, nil)
			return true
		}
		if op == "enc_keys" {
			_, _ = io.WriteString(w, km.fresh(1, 256))
		}
		return op == "enc_keys"
	})
	keys, err := e.GetKeys(t.Context(), "B", 256, 3)
	if len(keys) != 1 || err != nil {
		t.Errorf("a KME that runs dry midway: %v, %v, want the key that came", keys, err)
	}
	km.setHook(func(op string, _ int, w http.ResponseWriter, _ []byte) bool {
		fakekm.Answer(400, `{"message":"no keys available"}`)(w, nil)
		return true
	})
	if keys, err = e.GetKeys(t.Context(), "B", 256, 3); keys != nil || !errors.Is(err, kmclient.ErrKeyExhausted) {
		t.Errorf("a KME that is dry: %v, %v, want ErrKeyExhausted and no key", keys, err)
	}
	if s := e.Stats(); s.Wasted != 0 {
		t.Errorf("counted %+v, want no key wasted", s)
	}
}

// A KME that never consumes keys gives the same ones again: they must not encrypt a
// second message, whatever the request's size or the peer.
func TestKeysNeverConsumed(t *testing.T) {
	km := newFakeKME(t, fakekm.NewCA(t))
	var same string
	km.hook = func(op string, n int, w http.ResponseWriter, _ []byte) bool {
		if op == "enc_keys" && n == 1 {
			same = km.fresh(1, 256)
		}
		if op == "enc_keys" {
			_, _ = io.WriteString(w, same)
		}
		return op == "enc_keys"
	}
	e := etsiClient(t, Options{}, km)
	if _, err := e.GetKeys(t.Context(), "B", 256, 1); err != nil {
		t.Fatal(err)
	}
	for _, peer := range []string{"B", "C"} {
		keys, err := e.GetKeys(t.Context(), peer, 256, 1)
		if keys != nil || !errors.Is(err, kmclient.ErrBadKey) || !strings.Contains(err.Error(), "before") {
			t.Errorf("the same key again, for %s: %v, %v, want ErrBadKey that says why", peer, keys, err)
		}
	}
	if s := e.Stats(); s.Wasted != 2 {
		t.Errorf("counted %+v, want 2 wasted", s)
	}

	received := km.put(fakekm.RandomBytes(32))
	same = keysJSON(fakekm.KeyJSON(strings.ToUpper(received), km.vault[received]))
	if _, err := e.KeysByID(t.Context(), "B", received); err != nil {
		t.Fatal(err)
	}
	if keys, err := e.GetKeys(t.Context(), "B", 256, 1); !errors.Is(err, kmclient.ErrBadKey) {
		t.Errorf("a key that came to decrypt is given out to encrypt: %v, %v, want ErrBadKey", keys, err)
	}
}

// If a KME drops a key once the next is given out, the other side does not find it, and
// says so.
func TestEarlierKeyDropped(t *testing.T) {
	km := newFakeKME(t, fakekm.NewCA(t))
	km.hook = func(op string, _ int, _ http.ResponseWriter, _ []byte) bool {
		if op == "enc_keys" {
			km.mu.Lock()
			clear(km.vault)
			km.mu.Unlock()
		}
		return false
	}
	e := etsiClient(t, Options{}, km)
	var ids []string
	for range 2 {
		keys, err := e.GetKeys(t.Context(), "B", 256, 1)
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, keys[0].ID())
	}
	if _, err := e.KeysByID(t.Context(), "B", ids[0]); !errors.Is(err, kmclient.ErrKeyNotFound) {
		t.Errorf("the dropped key: %v, want ErrKeyNotFound", err)
	}
	if _, err := e.KeysByID(t.Context(), "B", ids[1]); err != nil {
		t.Errorf("the last key: %v", err)
	}
}

func TestStatusAnswers(t *testing.T) {
	for name, test := range map[string]struct {
		status int
		body   string
		want   error
		keys   error // of GetKeys for two, afterwards
	}{
		"numeric ID":   {200, `{"target_KME_ID":4711,"status_extension":{"a":1}}`, nil, nil},
		"HTML and 200": {200, `<html>`, kmclient.ErrBadAnswer, nil},
		"401 HTML":     {401, `<html>`, kmclient.ErrRefused, nil},
		"404":          {404, `<html>`, kmclient.ErrBadAnswer, nil},
		"500":          {500, ``, kmclient.ErrUnavailable, nil},
		"400":          {400, `{"message":"bad"}`, kmclient.ErrBadRequest, nil},
		"403":          {403, ``, kmclient.ErrRefused, nil},
		"405":          {405, ``, kmclient.ErrBadRequest, nil},
		"501":          {501, ``, kmclient.ErrUnavailable, nil},
		"503":          {503, ``, kmclient.ErrUnavailable, nil},
		"endless":      {200, strings.Repeat(" ", 1<<20), kmclient.ErrBadAnswer, nil},
	} {
		t.Run(name, func(t *testing.T) {
			km := answeringKME(t, "status", test.status, test.body)
			e := etsiClient(t, Options{}, km)
			s, err := e.Status(t.Context(), "B")
			if test.want == nil && (err != nil || s.TargetKME != "4711") || !errors.Is(err, test.want) {
				t.Errorf("Status = %+v, %v, want %v", s, err, test.want)
			}
			if _, err := e.GetKeys(t.Context(), "B", 256, 2); !errors.Is(err, test.keys) {
				t.Errorf("GetKeys without limits: %v, want %v", err, test.keys)
			}
			if _, err := e.GetKeys(t.Context(), "B", 256, 1); err != nil {
				t.Errorf("one key, which needs no limits: %v", err)
			}
			if keys := km.put(fakekm.RandomBytes(32)); true {
				if _, err := e.KeysByID(t.Context(), "B", keys, km.put(fakekm.RandomBytes(32))); err != nil {
					t.Errorf("KeysByID without limits: %v", err)
				}
			}
		})
	}
}
