package kmclient

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"
)

func keysJSON(keys ...string) string { return `{"keys":[` + strings.Join(keys, ",") + `]}` }

// What a KME may answer to enc_keys for two keys of 256 bits, and what must
// come of it: the keys or an error, a count of what was wasted, and never a
// second request for what was given out.
func TestETSIEncKeysAnswers(t *testing.T) {
	a, b := randomOctets(32), randomOctets(32)
	one, two := uuid.NewString(), uuid.NewString()
	good := keysJSON(keyJSON(one, a), keyJSON(two, b))
	for name, test := range map[string]struct {
		status int
		body   string
		want   error // nil: the two keys
		retry  bool
		wasted int64
	}{
		"good":                 {200, good, nil, false, 0},
		"more members":         {200, `{"key_container_extension":{},` + good[1:len(good)-1] + `,"x":[1]}`, nil, false, 0},
		"IDs that are no UUID": {200, keysJSON(keyJSON("a/1", a), keyJSON("a/2", b)), nil, false, 0},
		"size ignored":         {200, keysJSON(keyJSON(one, a[:16]), keyJSON(two, b[:16])), ErrBadKey, false, 2},
		"size rounded up":      {200, keysJSON(keyJSON(one, append(b, a...)), keyJSON(two, append(a, b...))), ErrBadKey, false, 2},
		"number ignored":       {200, keysJSON(keyJSON(one, a), keyJSON(two, b), keyJSON("3", randomOctets(32))), ErrBadKey, false, 3},
		"none at all":          {200, `{"keys":[]}`, ErrKeyExhausted, true, 0},
		"same ID":              {200, keysJSON(keyJSON(one, a), keyJSON(strings.ToUpper(one), b)), ErrBadKey, false, 2},
		"same octets":          {200, keysJSON(keyJSON(one, a), keyJSON(two, a)), ErrBadKey, false, 2},
		"all octets equal":     {200, keysJSON(keyJSON(one, a), keyJSON(two, make([]byte, 32))), ErrBadKey, false, 2},
		"blank in ID":          {200, keysJSON(keyJSON("a b", a), keyJSON(two, b)), ErrBadKey, false, 2},
		"cut short":            {200, good[:len(good)-3], ErrBadAnswer, false, 2},
		"no base64":            {200, strings.Replace(good, k64(a), k64(a)[:43]+"*", 1), ErrBadAnswer, false, 2},
		"HTML and 200":         {200, "<html>welcome " + k64(a), ErrBadAnswer, false, 2},
		"error and 200":        {200, `{"message":"sorry"}`, ErrBadAnswer, false, 2},
		"too large":            {200, good + strings.Repeat(" ", 1<<20), ErrBadAnswer, false, 2},

		"400 exhausted":         {400, `{"message":"Insufficient keys available"}`, ErrKeyExhausted, true, 0},
		"503 exhausted":         {503, `{"message":"key pool exhausted"}`, ErrKeyExhausted, true, 0},
		"exhausted in details":  {503, `{"message":"failed","details":[{"reason":"no keys available"}]}`, ErrKeyExhausted, true, 0},
		"400 size":              {400, `{"message":"size shall be a multiple of 8"}`, ErrBadRequest, false, 0},
		"400 mandatory":         {400, `{"message":"not all extension_mandatory parameters are supported"}`, ErrBadRequest, false, 0},
		"400 mandatory options": {400, `{"message":"not all extension_mandatory request options could be met"}`, ErrBadRequest, false, 0},
		"400 optional":          {400, `{"message":"not all extension_optional request options handled"}`, ErrBadRequest, false, 0},
		"400 HTML":              {400, `<html>Bad Request`, ErrBadRequest, false, 0},
		"401":                   {401, ``, ErrRefused, false, 0},
		"401 HTML":              {401, `<html>login`, ErrRefused, false, 0},
		"404":                   {404, `<html>`, ErrBadAnswer, false, 0},
		"500":                   {500, `{"message":"key storage not found"}`, ErrUnavailable, true, 0},
		"503":                   {503, ``, ErrUnavailable, true, 0},
		"huge 500":              {500, strings.Repeat("x", 1<<20), ErrUnavailable, true, 0},
	} {
		t.Run(name, func(t *testing.T) {
			km := newFakeKME(t, newTestCA(t))
			km.hook = func(op string, _ int, w http.ResponseWriter, _ []byte) bool {
				if op == "enc_keys" {
					answer(test.status, test.body)(w, nil)
				}
				return op == "enc_keys"
			}
			e := etsiClient(t, ETSI014Options{}, km)
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
			if keys != nil || showsKey(err.Error(), a) || strings.Contains(err.Error(), k64(a)[:8]) {
				t.Errorf("an error and %d keys, or a key in the error", len(keys))
			}
		})
	}
}

func checkFailure(t *testing.T, err, want error, status int, retry bool) {
	t.Helper()
	failed, ok := errors.AsType[*Error](err)
	if !errors.Is(err, want) || !ok || failed.Status != status || failed.Retry != retry {
		t.Errorf("got %v, want %v with status %d and retry %t", err, want, status, retry)
	}
	if err != nil && len(err.Error()) > 800 {
		t.Errorf("the error has %d octets: too many for a log", len(err.Error()))
	}
}

// What a KME may answer to dec_keys for the keys one and two.
func TestETSIDecKeysAnswers(t *testing.T) {
	a, b := randomOctets(32), randomOctets(32)
	one, two, other := uuid.NewString(), uuid.NewString(), uuid.NewString()
	for name, test := range map[string]struct {
		status int
		body   string
		want   error // nil: the two keys
		tries  int
		kept   int
		wasted int64
	}{
		"good":               {200, keysJSON(keyJSON(one, a), keyJSON(two, b)), nil, 1, 0, 0},
		"another order":      {200, keysJSON(keyJSON(two, b), keyJSON(one, a)), nil, 1, 0, 0},
		"upper case":         {200, keysJSON(keyJSON(strings.ToUpper(two), b), keyJSON(one, a)), nil, 1, 0, 0},
		"one missing":        {200, keysJSON(keyJSON(two, b)), ErrKeyNotFound, 1, 1, 0},
		"none":               {200, `{"keys":[]}`, ErrKeyNotFound, 1, 0, 0},
		"not asked for":      {200, keysJSON(keyJSON(one, a), keyJSON(other, b)), ErrBadAnswer, 1, 2, 0},
		"the same twice":     {200, keysJSON(keyJSON(one, a), keyJSON(one, b)), ErrBadKey, 1, 1, 1},
		"same octets":        {200, keysJSON(keyJSON(one, a), keyJSON(two, a)), ErrBadKey, 1, 2, 0},
		"HTML and 200":       {200, `<html>`, ErrBadAnswer, 1, 0, 2},
		"too large":          {200, keysJSON() + strings.Repeat(" ", 24<<20), ErrBadAnswer, 1, 0, 2},
		"unknown 400":        {400, `{"message":"one or more keys specified are not found on KME"}`, ErrKeyNotFound, 1, 0, 0},
		"unknown 404":        {404, `{"message":"Not Found"}`, ErrKeyNotFound, 1, 0, 0},
		"unknown 404 HTML":   {404, `<html>`, ErrKeyNotFound, 1, 0, 0},
		"unknown 500":        {500, `{"error":"unknown key ID"}`, ErrKeyNotFound, 1, 0, 0},
		"unknown in details": {400, `{"message":"bad","details":[{"key_ID":"x","why":"no such key"}]}`, ErrKeyNotFound, 1, 0, 0},
		"400 another SAE":    {400, `{"message":"SAE_B is not known: no keys for it"}`, ErrBadRequest, 2, 0, 0}, // once more for one key alone
		"400 HTML":           {400, `<html>`, ErrBadRequest, 2, 0, 0},
		"401":                {401, ``, ErrRefused, 1, 0, 0},
		"500":                {500, `<html>`, ErrUnavailable, 1, 0, 0},
		"503":                {503, ``, ErrUnavailable, 2, 0, 0},
		"504":                {504, ``, ErrUnavailable, 2, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			km := newFakeKME(t, newTestCA(t))
			km.hook = func(op string, _ int, w http.ResponseWriter, _ []byte) bool {
				if op == "dec_keys" {
					answer(test.status, test.body)(w, nil)
				}
				return op == "dec_keys"
			}
			e := etsiClient(t, ETSI014Options{}, km)
			keys, err := e.KeysByID(t.Context(), "A", one, two)
			if test.want == nil && (err != nil || !bytes.Equal(keys[0].Reveal(), a) || !bytes.Equal(keys[1].Reveal(), b)) {
				t.Fatalf("got %v, %v, want the two keys in the order asked for", keys, err)
			}
			if test.want != nil {
				checkFailure(t, err, test.want, test.status, test.want == ErrUnavailable)
			}
			if n := km.requests("dec_keys"); n != test.tries {
				t.Errorf("asked %d times, want %d", n, test.tries)
			}
			if s := e.Stats(); s.Kept != test.kept || s.Wasted != test.wasted || s.Gone != 0 {
				t.Errorf("counted %+v, want %d kept, %d wasted", s, test.kept, test.wasted)
			}
		})
	}
}

// A KME that gives fewer keys than asked for is asked for the rest.
func TestETSIFewerKeysThanAskedFor(t *testing.T) {
	km := newFakeKME(t, newTestCA(t))
	km.hook = func(op string, n int, w http.ResponseWriter, _ []byte) bool {
		if op != "enc_keys" {
			return false
		}
		_, _ = io.WriteString(w, km.fresh(1, 256))
		return true
	}
	e := etsiClient(t, ETSI014Options{}, km)
	if keys, err := e.GetKeys(t.Context(), "B", 256, 3); err != nil || len(keys) != 3 || km.requests("enc_keys") != 3 {
		t.Fatalf("got %v, %v after %d requests, want 3 keys after 3", keys, err, km.requests("enc_keys"))
	}
	km.setHook(func(op string, n int, w http.ResponseWriter, _ []byte) bool {
		if op == "enc_keys" && n == 5 { // after one of three
			answer(400, `{"message":"no keys available"}`)(w, nil)
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
		answer(400, `{"message":"no keys available"}`)(w, nil)
		return true
	})
	if keys, err = e.GetKeys(t.Context(), "B", 256, 3); keys != nil || !errors.Is(err, ErrKeyExhausted) {
		t.Errorf("a KME that is dry: %v, %v, want ErrKeyExhausted and no key", keys, err)
	}
	if s := e.Stats(); s.Wasted != 0 {
		t.Errorf("counted %+v, want no key wasted", s)
	}
}

// A KME that never consumes keys gives the same ones again: they must not
// encrypt a second message, whatever the size of the request or the peer.
func TestETSIKeysNeverConsumed(t *testing.T) {
	km := newFakeKME(t, newTestCA(t))
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
	e := etsiClient(t, ETSI014Options{}, km)
	if _, err := e.GetKeys(t.Context(), "B", 256, 1); err != nil {
		t.Fatal(err)
	}
	for _, peer := range []string{"B", "C"} {
		keys, err := e.GetKeys(t.Context(), peer, 256, 1)
		if keys != nil || !errors.Is(err, ErrBadKey) || !strings.Contains(err.Error(), "before") {
			t.Errorf("the same key again, for %s: %v, %v, want ErrBadKey that says why", peer, keys, err)
		}
	}
	if s := e.Stats(); s.Wasted != 2 {
		t.Errorf("counted %+v, want 2 wasted", s)
	}

	received := km.put(randomOctets(32))
	same = keysJSON(keyJSON(strings.ToUpper(received), km.vault[received]))
	if _, err := e.KeysByID(t.Context(), "B", received); err != nil {
		t.Fatal(err)
	}
	if keys, err := e.GetKeys(t.Context(), "B", 256, 1); !errors.Is(err, ErrBadKey) {
		t.Errorf("a key that came to decrypt is given out to encrypt: %v, %v, want ErrBadKey", keys, err)
	}
}

// An earlier key dropped once the next was given out is not found at the
// other side, which says so.
func TestETSIEarlierKeyDropped(t *testing.T) {
	km := newFakeKME(t, newTestCA(t))
	km.hook = func(op string, _ int, _ http.ResponseWriter, _ []byte) bool {
		if op == "enc_keys" {
			km.mu.Lock()
			clear(km.vault)
			km.mu.Unlock()
		}
		return false
	}
	e := etsiClient(t, ETSI014Options{}, km)
	var ids []string
	for range 2 {
		keys, err := e.GetKeys(t.Context(), "B", 256, 1)
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, keys[0].ID())
	}
	if _, err := e.KeysByID(t.Context(), "B", ids[0]); !errors.Is(err, ErrKeyNotFound) {
		t.Errorf("the dropped key: %v, want ErrKeyNotFound", err)
	}
	if _, err := e.KeysByID(t.Context(), "B", ids[1]); err != nil {
		t.Errorf("the last key: %v", err)
	}
}

func TestETSIStatusAnswers(t *testing.T) {
	for name, test := range map[string]struct {
		status int
		body   string
		want   error
		keys   error // of GetKeys for two, afterwards
	}{
		"numeric ID":   {200, `{"target_KME_ID":4711,"status_extension":{"a":1}}`, nil, nil},
		"HTML and 200": {200, `<html>`, ErrBadAnswer, nil},
		"401 HTML":     {401, `<html>`, ErrRefused, nil},
		"404":          {404, `<html>`, ErrBadAnswer, nil},
		"500":          {500, ``, ErrUnavailable, nil},
		"400":          {400, `{"message":"bad"}`, ErrBadRequest, nil},
		"403":          {403, ``, ErrRefused, nil},
		"405":          {405, ``, ErrBadRequest, nil},
		"501":          {501, ``, ErrUnavailable, nil},
		"503":          {503, ``, ErrUnavailable, nil},
		"endless":      {200, strings.Repeat(" ", 1<<20), ErrBadAnswer, nil},
	} {
		t.Run(name, func(t *testing.T) {
			km := newFakeKME(t, newTestCA(t))
			km.hook = func(op string, _ int, w http.ResponseWriter, _ []byte) bool {
				if op == "status" {
					answer(test.status, test.body)(w, nil)
				}
				return op == "status"
			}
			e := etsiClient(t, ETSI014Options{}, km)
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
			if keys := km.put(randomOctets(32)); true {
				if _, err := e.KeysByID(t.Context(), "B", keys, km.put(randomOctets(32))); err != nil {
					t.Errorf("KeysByID without limits: %v", err)
				}
			}
		})
	}
}
