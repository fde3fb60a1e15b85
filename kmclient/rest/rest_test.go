package rest

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/internal/fakekm"
)

// restServer starts a key manager that answers as handler does, and returns a client
// for it that does not wait between two tries.
func restServer(t *testing.T, handler http.HandlerFunc) *Client {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return restClient(t, Options{URL: server.URL})
}

func restClient(t *testing.T, o Options) *Client {
	t.Helper()
	r, err := New(o)
	if err != nil {
		t.Fatalf("New(%q): %v", o.URL, err)
	}
	r.caller.Pause = func(ctx context.Context) error { return ctx.Err() }
	t.Cleanup(r.CloseIdle)
	return r
}

// goodKM is a QMail REST key manager as it should be.
type goodKM struct {
	mu   sync.Mutex
	n    int
	keys map[string][]byte
}

func (km *goodKM) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	km.mu.Lock()
	defer km.mu.Unlock()
	id := strings.TrimPrefix(r.URL.Path, "/prefix/api/v1/keys/")
	key, found := km.keys[id]
	switch {
	case r.Method == "GET" && r.URL.Path == "/prefix/api/v1/status":
		_, _ = io.WriteString(w, `{"status":"ok","keys_stored":7,"key_size":256,"more":{"a":[1]}}`)
	case r.Method == "POST" && id == "get":
		var request struct {
			Size   int `json:"key_size"`
			Number int `json:"number"`
		}
		if err := json.NewDecoder(r.Body).Decode(&request); err != nil {
			http.Error(w, "no JSON", http.StatusBadRequest)
			return
		}
		var list []string
		for range request.Number {
			km.n++
			id := fmt.Sprintf("key-%d", km.n)
			km.keys[id] = fakekm.RandomBytes(request.Size / 8)
			list = append(list, fakekm.KeyJSON(id, km.keys[id]))
		}
		_, _ = fmt.Fprintf(w, `{"keys":[%s]}`, strings.Join(list, ","))
	case !found:
		http.Error(w, `{"error":"unknown key"}`, http.StatusNotFound)
	case r.Method == "DELETE":
		delete(km.keys, id)
		w.WriteHeader(http.StatusNoContent)
	default:
		_, _ = fmt.Fprintf(w, `{"key_ID":%q,"key":%q,"key_size":%d}`,
			id, base64.StdEncoding.EncodeToString(key), len(key)*8)
	}
}

func TestWithAGoodKeyManager(t *testing.T) {
	var connections atomic.Int32
	server := httptest.NewUnstartedServer(&goodKM{keys: map[string][]byte{}})
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			connections.Add(1)
		}
	}
	server.Start()
	defer server.Close()
	r := restClient(t, Options{URL: server.URL + "/prefix/"})
	ctx := t.Context()

	if r.DeletesOnDelivery() {
		t.Error("says that keys are deleted, but they stay until they are closed")
	}
	s, err := r.Status(ctx, "")
	if err != nil || fakekm.Count(s.StoredKeys) != 7 || s.KeySize != 256 || s.MaxKeySize != 0 {
		t.Errorf("Status = %+v, %v: want 7 keys of 256 bits and no limits", s, err)
	}
	keys, err := r.GetKeys(ctx, "", 512, 3)
	if err != nil || len(keys) != 3 || keys[0].Size() != 512 {
		t.Fatalf("GetKeys(512, 3) = %v, %v", keys, err)
	}
	again, err := r.KeysByID(ctx, "", keys[2].ID(), keys[0].ID())
	if err != nil {
		t.Fatalf("KeysByID: %v", err)
	}
	if !bytes.Equal(again[0].Reveal(), keys[2].Reveal()) || !bytes.Equal(again[1].Reveal(), keys[0].Reveal()) {
		t.Error("KeysByID gives different keys than GetKeys did, or a different order")
	}
	if err := r.CloseKey(ctx, keys[0].ID()); err != nil {
		t.Errorf("CloseKey: %v", err)
	}
	for range 25 { // errors, too, must leave the connection usable
		if keys, err := r.KeysByID(ctx, "", keys[1].ID(), keys[0].ID()); !errors.Is(err, kmclient.ErrKeyNotFound) || keys != nil {
			t.Fatalf("KeysByID with a closed key = %v, %v: want no key and ErrKeyNotFound", keys, err)
		}
		if err := r.CloseKey(ctx, keys[0].ID()); !errors.Is(err, kmclient.ErrKeyNotFound) {
			t.Fatalf("CloseKey of a closed key: %v, want ErrKeyNotFound", err)
		}
	}
	if n := connections.Load(); n != 1 {
		t.Errorf("over 50 calls one after another took %d connections, want 1", n)
	}
}

func TestExtensions(t *testing.T) {
	var got map[string]any
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = nil
		_ = json.NewDecoder(r.Body).Decode(&got)
		fakekm.Answer(200, `{"keys":[`+fakekm.KeyJSON("a", fakekm.RandomBytes(32))+`]}`)(w, r)
	}))
	defer server.Close()
	for _, extensions := range [][]any{nil, {}, {"pqc", map[string]any{"route": "direct"}}} {
		r := restClient(t, Options{URL: server.URL, ExtensionMandatory: extensions})
		if _, err := r.GetKeys(t.Context(), "", 256, 1); err != nil {
			t.Fatalf("GetKeys: %v", err)
		}
		sent, there := got["extension_mandatory"].([]any)
		if there != (len(extensions) > 0) || len(sent) != len(extensions) {
			t.Errorf("with extensions %v the request is %v", extensions, got)
		}
		if _, err := r.GetKeysWith(t.Context(), "", []any{"one", "more"}, 256, 1); err != nil {
			t.Fatalf("GetKeysWith: %v", err)
		}
		if sent, _ := got["extension_mandatory"].([]any); len(sent) != len(extensions)+2 || sent[len(sent)-1] != "more" {
			t.Errorf("with extensions %v and two more the request is %v", extensions, got)
		}
		if got["key_size"] != 256.0 || got["number"] != 1.0 {
			t.Errorf("the request is %v: want key_size 256 and number 1", got)
		}
	}
}

func TestGetKeysBadAnswers(t *testing.T) {
	a, b := fakekm.RandomBytes(32), fakekm.RandomBytes(32)
	k64 := base64.StdEncoding.EncodeToString(a)
	two := func(first, second string) string { return `{"keys":[` + first + `,` + second + `]}` }
	good := two(fakekm.KeyJSON("1", a), fakekm.KeyJSON("2", b))
	for name, test := range map[string]struct {
		status int
		body   string
		want   error
		retry  bool
	}{
		"HTML":            {200, "<!DOCTYPE html><p>" + k64, kmclient.ErrBadAnswer, false},
		"not JSON":        {200, k64, kmclient.ErrBadAnswer, false},
		"empty":           {200, "", kmclient.ErrBadAnswer, false},
		"another form":    {200, `[` + fakekm.KeyJSON("1", a) + `]`, kmclient.ErrBadAnswer, false},
		"no keys":         {200, `{"error":"something"}`, kmclient.ErrBadAnswer, false},
		"trailing text":   {200, good + "x", kmclient.ErrBadAnswer, false},
		"trailing object": {200, good + "{}", kmclient.ErrBadAnswer, false},
		"cut short":       {200, good[:len(good)-4], kmclient.ErrBadAnswer, false},
		"none at all":     {200, `{"keys":[]}`, kmclient.ErrKeyExhausted, true},
		"too many":        {200, `{"keys":[` + fakekm.KeyJSON("1", a) + `,` + fakekm.KeyJSON("2", b) + `,` + fakekm.KeyJSON("3", fakekm.RandomBytes(32)) + `]}`, kmclient.ErrBadKey, false},
		"short key":       {200, two(fakekm.KeyJSON("1", a), fakekm.KeyJSON("2", b[:16])), kmclient.ErrBadKey, false},
		"long key":        {200, two(fakekm.KeyJSON("1", a), fakekm.KeyJSON("2", append(bytes.Clone(b), b...))), kmclient.ErrBadKey, false},
		"size lies":       {200, two(`{"key_ID":"1","key":"`+k64+`","key_size":128}`, fakekm.KeyJSON("2", b)), kmclient.ErrBadKey, false},
		"size is text":    {200, two(`{"key_ID":"1","key":"`+k64+`","key_size":"256"}`, fakekm.KeyJSON("2", b)), kmclient.ErrBadAnswer, false},
		"same ID":         {200, two(fakekm.KeyJSON("1", a), fakekm.KeyJSON("1", b)), kmclient.ErrBadKey, false},
		"same UUID": {200, two(fakekm.KeyJSON("9b42e9e2-0a1b-4c2d-8e3f-0123456789ab", a),
			fakekm.KeyJSON("9B42E9E2-0A1B-4C2D-8E3F-0123456789AB", b)), kmclient.ErrBadKey, false},
		"ID a number":           {200, two(`{"key_ID":1,"key":"`+k64+`"}`, fakekm.KeyJSON("2", b)), kmclient.ErrBadAnswer, false},
		"no ID":                 {200, two(`{"key":"`+k64+`"}`, fakekm.KeyJSON("2", b)), kmclient.ErrBadKey, false},
		"ID with line break":    {200, two(fakekm.KeyJSON("1\n2", a), fakekm.KeyJSON("2", b)), kmclient.ErrBadKey, false},
		"same bytes":            {200, two(fakekm.KeyJSON("1", a), fakekm.KeyJSON("2", a)), kmclient.ErrBadKey, false},
		"bytes all equal":       {200, two(fakekm.KeyJSON("1", a), fakekm.KeyJSON("2", bytes.Repeat([]byte{1}, 32))), kmclient.ErrBadKey, false},
		"key null":              {200, two(`{"key_ID":"1","key":null}`, fakekm.KeyJSON("2", b)), kmclient.ErrBadAnswer, false},
		"key missing":           {200, two(`{"key_ID":"1"}`, fakekm.KeyJSON("2", b)), kmclient.ErrBadKey, false},
		"line break in base64":  {200, two(`{"key_ID":"1","key":"`+k64[:20]+`\n`+k64[20:]+`"}`, fakekm.KeyJSON("2", b)), kmclient.ErrBadAnswer, false},
		"base64 without end":    {200, two(`{"key_ID":"1","key":"`+strings.TrimRight(k64, "=")+`"}`, fakekm.KeyJSON("2", b)), kmclient.ErrBadAnswer, false},
		"base64 with rest bits": {200, two(`{"key_ID":"1","key":"`+k64[:42]+"//="[1:]+`"}`, fakekm.KeyJSON("2", b)), kmclient.ErrBadAnswer, false},
		"URL-safe base64":       {200, two(`{"key_ID":"1","key":"-_-_`+k64[4:]+`"}`, fakekm.KeyJSON("2", b)), kmclient.ErrBadAnswer, false},

		"redirect":          {302, good, kmclient.ErrBadAnswer, false},
		"redirect of POST":  {307, good, kmclient.ErrBadAnswer, false},
		"400":               {400, `{"message":"no key_size given"}`, kmclient.ErrBadRequest, false},
		"409":               {409, `{"message":"conflict"}`, kmclient.ErrBadRequest, false},
		"400 exhausted":     {400, `{"message":"Key pool exhausted"}`, kmclient.ErrKeyExhausted, true},
		"503 exhausted":     {503, `{"error":"Insufficient keys available"}`, kmclient.ErrKeyExhausted, true},
		"404 exhausted":     {404, `{"detail":"no more keys"}`, kmclient.ErrKeyExhausted, true},
		"401":               {401, "<html>login</html>", kmclient.ErrRefused, false},
		"403":               {403, `{"error":"no keys for you"}`, kmclient.ErrRefused, false},
		"404":               {404, "", kmclient.ErrBadAnswer, false},
		"429":               {429, "", kmclient.ErrUnavailable, true},
		"500":               {500, `{"error":"database connection pool exhausted"}`, kmclient.ErrUnavailable, true},
		"500 HTML":          {500, "<html><b>" + k64, kmclient.ErrUnavailable, true},
		"503":               {503, "", kmclient.ErrUnavailable, true},
		"huge 503":          {503, strings.Repeat("x", 1<<20), kmclient.ErrUnavailable, true},
		"too large at once": {200, good + strings.Repeat(" ", 1<<20), kmclient.ErrBadAnswer, false},
	} {
		t.Run(name, func(t *testing.T) {
			var requests atomic.Int32
			r := restServer(t, func(w http.ResponseWriter, req *http.Request) {
				requests.Add(1)
				w.Header().Set("Location", "/elsewhere")
				fakekm.Answer(test.status, test.body)(w, req)
			})
			keys, err := r.GetKeys(t.Context(), "", 256, 2)
			if keys != nil || !errors.Is(err, test.want) {
				t.Fatalf("got %d keys and %v, want %v", len(keys), err, test.want)
			}
			e, ok := errors.AsType[*kmclient.Error](err)
			if !ok || e.Status != test.status || e.Retry != test.retry {
				t.Errorf("got %#v, want status %d, retry %t", e, test.status, test.retry)
			}
			if n := requests.Load(); n != 1 {
				t.Errorf("a request for keys was sent %d times", n)
			}
			if fakekm.Shows(err.Error(), a) || fakekm.Shows(err.Error(), b) || strings.Contains(err.Error(), k64[:8]) {
				t.Error("the error shows a key")
			}
			if len(err.Error()) > 500 {
				t.Errorf("the error has %d bytes: too long for a log", len(err.Error()))
			}
			if strings.Contains(test.body, "<") && !strings.Contains(err.Error(), "HTML") {
				t.Errorf("%q does not name the HTML page", err)
			}
		})
	}
}

// A key manager that gives fewer keys than asked for is asked for the rest.
func TestFewerKeysThanAskedFor(t *testing.T) {
	var asked []int
	given := 0
	r := restServer(t, func(w http.ResponseWriter, req *http.Request) {
		var request struct {
			Number int `json:"number"`
		}
		_ = json.NewDecoder(req.Body).Decode(&request)
		asked = append(asked, request.Number)
		if given == 4 {
			fakekm.Answer(400, `{"message":"no keys available"}`)(w, req)
			return
		}
		given++
		fakekm.Answer(200, `{"keys":[`+fakekm.KeyJSON(fmt.Sprintf("key-%d", given), fakekm.RandomBytes(32))+`]}`)(w, req)
	})
	if keys, err := r.GetKeys(t.Context(), "", 256, 3); err != nil || len(keys) != 3 || !slices.Equal(asked, []int{3, 2, 1}) {
		t.Errorf("%v, %v after asking for %v, want 3 keys in 3 requests", keys, err, asked)
	}
	if keys, err := r.GetKeys(t.Context(), "", 256, 3); len(keys) != 1 || err != nil {
		t.Errorf("a key manager that runs dry midway: %v, %v, want the key that came", keys, err)
	}
	if keys, err := r.GetKeys(t.Context(), "", 256, 3); keys != nil || !errors.Is(err, kmclient.ErrKeyExhausted) {
		t.Errorf("a key manager that is dry: %v, %v, want ErrKeyExhausted and no key", keys, err)
	}
	same := restServer(t, fakekm.Answer(200, `{"keys":[`+fakekm.KeyJSON("1", fakekm.RandomBytes(32))+`]}`))
	if keys, err := same.GetKeys(t.Context(), "", 256, 3); keys != nil || !errors.Is(err, kmclient.ErrBadKey) {
		t.Errorf("one key again and again: %v, %v, want ErrBadKey", keys, err)
	}
}

func TestKeysByIDAnswers(t *testing.T) {
	secret := fakekm.RandomBytes(32)
	k64 := base64.StdEncoding.EncodeToString(secret)
	const id, otherCase = "9b42e9e2-0a1b-4c2d-8e3f-0123456789ab", "9B42E9E2-0A1B-4C2D-8E3F-0123456789AB"
	for name, test := range map[string]struct {
		status int
		body   string
		want   error // nil: a key
		tries  int
	}{
		"good":             {200, fakekm.KeyJSON(id, secret), nil, 1},
		"with size":        {200, `{"key_ID":"` + id + `","key":"` + k64 + `","key_size":256,"more":1}`, nil, 1},
		"ID in other case": {200, fakekm.KeyJSON(otherCase, secret), nil, 1},
		"escaped slash":    {200, `{"key_ID":"` + id + `","key":"` + strings.ReplaceAll(k64, "/", `\/`) + `"}`, nil, 1},
		"wrong ID":         {200, fakekm.KeyJSON("another", secret), kmclient.ErrBadAnswer, 1},
		"no ID":            {200, `{"key":"` + k64 + `"}`, kmclient.ErrBadAnswer, 1},
		"size lies":        {200, `{"key_ID":"` + id + `","key":"` + k64 + `","key_size":128}`, kmclient.ErrBadKey, 1},
		"trailing text":    {200, fakekm.KeyJSON(id, secret) + k64, kmclient.ErrBadAnswer, 1},
		"bytes all equal":  {200, fakekm.KeyJSON(id, make([]byte, 32)), kmclient.ErrBadKey, 1},
		"null":             {200, `null`, kmclient.ErrBadAnswer, 1},
		"404":              {404, `{"error":"no keys"}`, kmclient.ErrKeyNotFound, 1},
		"400":              {400, `{"error":"no keys"}`, kmclient.ErrBadRequest, 1},
		"500":              {500, ``, kmclient.ErrUnavailable, 1},
		"502":              {502, `<html>`, kmclient.ErrUnavailable, 2},
		"503":              {503, ``, kmclient.ErrUnavailable, 2},
		"504":              {504, ``, kmclient.ErrUnavailable, 2},
	} {
		t.Run(name, func(t *testing.T) {
			var requests atomic.Int32
			r := restServer(t, func(w http.ResponseWriter, req *http.Request) {
				requests.Add(1)
				fakekm.Answer(test.status, test.body)(w, req)
			})
			keys, err := r.KeysByID(t.Context(), "", id)
			switch {
			case test.want == nil && (err != nil || !bytes.Equal(keys[0].Reveal(), secret)):
				t.Errorf("got %v, %v, want the key", keys, err)
			case test.want != nil && (keys != nil || !errors.Is(err, test.want)):
				t.Errorf("got %d keys and %v, want %v", len(keys), err, test.want)
			case err != nil && (fakekm.Shows(err.Error(), secret) || strings.Contains(err.Error(), k64[:8])):
				t.Error("the error shows the key")
			}
			if n := int(requests.Load()); n != test.tries {
				t.Errorf("asked %d times, want %d", n, test.tries)
			}
		})
	}
}

func TestRequestBounds(t *testing.T) {
	r := restServer(t, func(http.ResponseWriter, *http.Request) { t.Error("a bad request was sent") })
	for _, test := range []struct{ size, number int }{
		{0, 1}, {255, 1}, {-8, 1}, {256, 0}, {256, -1}, {256, kmclient.MaxRequestKeys + 1}, {kmclient.MaxRequestSize + 8, 1}, {kmclient.MaxRequestSize, 65},
	} {
		if _, err := r.GetKeys(t.Context(), "", test.size, test.number); !errors.Is(err, kmclient.ErrBadRequest) {
			t.Errorf("GetKeys(%d bits, %d keys): %v, want ErrBadRequest", test.size, test.number, err)
		}
	}
	for name, test := range map[string]struct {
		ids  []string
		want error
	}{
		"no ID":     {nil, kmclient.ErrBadRequest},
		"too many":  {make([]string, kmclient.MaxRequestKeys+1), kmclient.ErrBadRequest},
		"twice":     {[]string{"a", "a"}, kmclient.ErrBadRequest},
		"space":     {[]string{"a b"}, kmclient.ErrBadRequest},
		"empty":     {[]string{""}, kmclient.ErrBadRequest},
		"climbs":    {[]string{"a", "../x"}, kmclient.ErrBadRequest},
		"dots":      {[]string{".."}, kmclient.ErrBadRequest},
		"dot":       {[]string{"."}, kmclient.ErrBadRequest},
		"inside":    {[]string{"a/../b"}, kmclient.ErrBadRequest},
		"backslash": {[]string{`a\..\b`}, kmclient.ErrBadRequest},
	} {
		if _, err := r.KeysByID(t.Context(), "", test.ids...); !errors.Is(err, test.want) {
			t.Errorf("KeysByID, %s: %v, want %v", name, err, test.want)
		}
	}
	if err := r.CloseKey(t.Context(), ".."); !errors.Is(err, kmclient.ErrBadRequest) {
		t.Errorf("CloseKey(..): %v, want ErrBadRequest", err)
	}
}

func TestEscapesIDs(t *testing.T) {
	secret := fakekm.RandomBytes(32)
	for _, id := range []string{"a/b", "a%2fb", "a?b", "a#b", "a;b", "...", "a..b", "/a", "//a//", "%", "%2e%2e", `"`, "a+b&c=d", "{x}"} {
		var got, query string
		r := restServer(t, func(w http.ResponseWriter, req *http.Request) {
			got, query = req.URL.EscapedPath(), req.URL.RawQuery
			_, _ = io.WriteString(w, fakekm.KeyJSON(strings.TrimPrefix(req.URL.Path, "/api/v1/keys/"), secret))
		})
		if _, err := r.KeysByID(t.Context(), "", id); err != nil {
			t.Errorf("ID %q does not arrive as it is: %v", id, err)
		}
		if strings.Count(got, "/") != 4 || query != "" {
			t.Errorf("ID %q: asked for %q?%q, which is another path", id, got, query)
		}
	}
}
