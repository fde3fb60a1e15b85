package kmdoctor

import (
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/qkdmail/qkdmail/cmd/internal/kmsim"
)

// An exchange is a request to the simulator and its answer, which may be
// changed.
type exchange struct {
	kme    string
	r      *http.Request
	body   string // of the request
	status int
	kind   string // content type
	answer string
	again  func() // has the simulator answer body again
}

// what is the operation.
func (e *exchange) what() string { return e.r.URL.Path[strings.LastIndexByte(e.r.URL.Path, '/')+1:] }

// change returns handlers that pass every answer through f.
func change(f func(*exchange)) func(string, http.Handler) http.Handler {
	return func(kme string, h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			e := &exchange{kme: kme, r: r, body: string(body)}
			e.again = func() {
				inner := r.Clone(r.Context())
				inner.Body, inner.ContentLength = io.NopCloser(strings.NewReader(e.body)), int64(len(e.body))
				inner.URL, inner.Method = e.r.URL, e.r.Method
				a := httptest.NewRecorder()
				h.ServeHTTP(a, inner)
				e.status, e.kind, e.answer = a.Code, a.Header().Get("Content-Type"), a.Body.String()
			}
			e.again()
			f(e)
			if e.kind != "" {
				w.Header().Set("Content-Type", e.kind)
			}
			w.WriteHeader(e.status)
			_, _ = io.WriteString(w, e.answer)
		})
	}
}

// say replaces words in the answers to an operation.
func say(what string, old, new string) func(*exchange) {
	return func(e *exchange) {
		if e.what() == what {
			e.answer = strings.ReplaceAll(e.answer, old, new)
		}
	}
}

// replace replaces the answers to an operation.
func replace(what, answer string) func(*exchange) {
	return func(e *exchange) {
		if e.what() == what {
			e.answer = answer
		}
	}
}

// member changes one member of the status.
func member(name string, value any) func(*exchange) {
	return func(e *exchange) {
		var status map[string]any
		if e.what() != "status" || json.Unmarshal([]byte(e.answer), &status) != nil {
			return
		}
		status[name] = value
		if value == nil {
			delete(status, name)
		}
		text, _ := json.Marshal(status)
		e.answer = string(text)
	}
}

// keysOf changes every key of an answer of one KME.
func keysOf(kme string, f func(i int, key map[string]any)) func(*exchange) {
	return func(e *exchange) {
		var c map[string][]map[string]any
		if e.status != 200 || e.kme != kme || e.what() == "status" || json.Unmarshal([]byte(e.answer), &c) != nil {
			return
		}
		for i, k := range c["keys"] {
			f(i, k)
		}
		text, _ := json.Marshal(c)
		e.answer = string(text)
	}
}

const zeros = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="

// serveAnyway answers requests that it should refuse with the default key.
func serveAnyway(e *exchange) {
	if e.what() == "enc_keys" && e.status == 400 {
		u := *e.r.URL
		u.Path = "/api/v1/keys/SAE_B/enc_keys"
		e.body, e.r.URL = "{}", &u
		e.again()
	}
}

func TestBroken(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: takes long, and this is -short")
	}
	noSizes := "enc-size refuse-size" // the checks that can't be made without sizes
	for name, test := range map[string]struct {
		change     func(*exchange)
		fail, skip string // skip: "*" for any
		words      string // in the detail of the first check that fails
	}{
		"a field is missing":      {member("stored_key_count", nil), "status-fields", "stored-count", "stored_key_count is missing"},
		"a number is a string":    {member("max_key_count", "100000"), "status-fields", "", "max_key_count is a string and should be an integer"},
		"an extension is a list":  {member("status_extension", []int{1}), "status-fields", "", "status_extension is an array"},
		"sizes make no sense":     {member("min_key_size", 512), "status-sizes", noSizes, "min_key_size 512, key_size 256"},
		"a size in bytes":         {member("key_size", 100), "status-sizes", noSizes, "key_size 100"},
		"no key a request":        {member("max_key_per_request", 0), "status-counts", "refuse-number", "max_key_per_request 0"},
		"another master":          {member("master_SAE_ID", "SAE_X"), "status-sae peer-status", "", `master "SAE_X"`},
		"another slave":           {member("slave_SAE_ID", "SAE\x1b_X"), "status-sae", "", `slave "SAE_X"`},
		"a huge limit":            {member("max_key_size", 1<<30), "", "refuse-size", ""},
		"status is an array":      {replace("status", "[]"), "status peer-status", "*", "no JSON object"},
		"status is 201":           {func(e *exchange) { e.status = map[bool]int{true: 201, false: e.status}[e.what() == "status"] }, "status peer-status", "*", "HTTP 201 instead of 200"},
		"status is not UTF-8":     {say("status", "KME_A", "\xff"), "status peer-status", "*", "no JSON object in UTF-8"},
		"text/plain":              {func(e *exchange) { e.kind = "text/plain" }, "content-type", "", `content type "text/plain"`},
		"other key_size":          {member("key_size", 128), "enc-default", "", "but key_size is 128"},
		"keys by another name":    {say("enc_keys", `"keys"`, `"Keys"`), "enc-default enc-number enc-get enc-optional", "*", "no array of objects named keys"},
		"key_id":                  {say("enc_keys", "key_ID", "key_id"), "enc-default enc-number enc-get enc-optional", "*", "has no key_ID"},
		"not JSON":                {say("enc_keys", "{", "["), "enc-default enc-number enc-get enc-optional refuse-multiple refuse-mandatory error-body", "*", "not a JSON object"},
		"IDs are no UUIDs":        {say("enc_keys", "-", ""), "key-id", "*", "not a UUID"},
		"base64 for URLs":         {keysOf("KME_A", func(_ int, k map[string]any) { k["key"] = "-_-_-_-_-_8=" }), "enc-default enc-size enc-get key-base64", "*", ""},
		"no padding":              {keysOf("KME_A", func(_ int, k map[string]any) { k["key"] = strings.TrimRight(k["key"].(string), "=") }), "enc-default enc-size enc-get key-base64", "*", ""},
		"keys of zeros":           {keysOf("KME_A", func(_ int, k map[string]any) { k["key"] = zeros[:len(k["key"].(string))-1] + "=" }), "key-random dec-keys dec-get dec-whole dec-later", "dec-deleted", "bytes"},
		"an ID twice":             {keysOf("KME_A", func(_ int, k map[string]any) { k["key_ID"] = "00000000-0000-4000-8000-000000000000" }), "key-id-once dec-keys dec-get dec-whole", "*", "1 different"},
		"other keys at the peer":  {keysOf("KME_B", func(_ int, k map[string]any) { k["key"] = zeros }), "dec-keys dec-get dec-whole dec-later", "dec-deleted", "different keys with the same ID"},
		"other IDs at the peer":   {keysOf("KME_B", func(_ int, k map[string]any) { k["key_ID"] = "x" }), "dec-keys dec-get dec-whole dec-later", "dec-deleted", "another ID"},
		"other words":             {say("enc_keys", "shall be a multiple", `\u001b[31m must be`), "refuse-multiple", "", `"size [31m must be of 8" instead of "size shall be`},
		"words with capitals":     {say("enc_keys", "size shall", "Error: Size SHALL"), "", "", ""},
		"errors without message":  {say("enc_keys", `"message"`, `"error"`), "refuse-multiple refuse-mandatory error-body", "", `400 "size shall`},
		"details are a string":    {say("enc_keys", `"details":[{"extension":"qkdmail_doctor"}]`, `"details":"x"`), "error-body", "", "details"},
		"403 for 401":             {func(e *exchange) { e.status = map[bool]int{true: 403, false: e.status}[e.status == 401] }, "dec-stranger error-body", "", "403"},
		"all is served":           {serveAnyway, "refuse-multiple refuse-number refuse-size refuse-mandatory refuse-json refuse-sae", "", "not refused: HTTP 200 with 1 key of 256 bits"},
		"dec_keys gives anything": {func(e *exchange) { anyKey(e) }, "dec-unknown dec-stranger dec-own dec-deleted dec-whole", "dec-later", ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := start(t, kmsim.Options{}, change(test.change), nil)
			r := run(t, w.options(true))
			expect(t, r, Fail, test.fail)
			if test.skip != "*" {
				expect(t, r, Skip, test.skip)
			}
			if got := r.KeysUsed + r.KeysLost; got != int(w.given.Load()) {
				t.Errorf("%d keys; the simulator gave out %d", got, w.given.Load())
			}
			first, _, _ := strings.Cut(test.fail, " ")
			if c := r.Check(first); !strings.Contains(c.Detail, test.words) {
				t.Errorf("%s: %q\nwant in it %q", c.ID, c.Detail, test.words)
			}
		})
	}
}

// Some answers are right in an unusual way.
func TestUnusual(t *testing.T) {
	slash := func(e *exchange) { // as PHP writes it
		if e.what() != "status" && e.status == 200 {
			e.answer = strings.ReplaceAll(e.answer, "/", `\/`)
		}
	}
	charset := func(e *exchange) { e.kind = "Application/JSON; charset=utf-8" }
	more := member("status_extension", map[string]any{"x": 1})
	w := start(t, kmsim.Options{KeySize: 4096}, change(func(e *exchange) { slash(e); charset(e); more(e) }), nil)
	r := run(t, w.options(true))
	expect(t, r, Fail, "")
	expect(t, r, Warn, "")
	expect(t, r, Skip, "")
}

func TestFromBase64(t *testing.T) {
	for text, good := range map[string]bool{
		`"AAAA"`: true, `""`: true, `"AA=="`: true, `"\/\/\/\/"`: true, `"\u0041AAA"`: true,
		`"AAA"`: false, `"AB=="`: false, `"AAAA\n"`: false, "\"AAAA\n\"": false, `"-___"`: false, `"\q"`: false,
	} {
		if secret := fromBase64(json.RawMessage(text)); (secret != nil) != good {
			t.Errorf("%s: %v", text, secret)
		}
	}
}

func TestHints(t *testing.T) {
	for _, test := range []struct {
		status int
		body   string
		words  string
	}{
		{404, "", "wrong URL"}, {500, `{"message":"x"}`, `HTTP 500 "x" instead of 400: clients`}, {403, "", "is 401"}, {405, "", "HTTP 405 instead of 400"},
	} {
		v := judge(post(1, "{}"), answer{status: test.status, body: []byte(test.body)}, nil, nil)
		if v.result != Fail || !strings.Contains(v.detail, test.words) {
			t.Errorf("%d: %+v", test.status, v)
		}
	}
	if v := judge(post(1, "{}"), answer{err: io.EOF}, nil, nil); v.result != Fail || !strings.Contains(v.detail, "no answer: EOF") {
		t.Errorf("%+v", v)
	}
	for raw, want := range map[string]string{`"`: "a string", "{": "an object", "[": "an array", "true": "a boolean", "null": "null", "-1": "a number"} {
		if got := kindOf(json.RawMessage(raw)); got != want {
			t.Errorf("%s: %s", raw, got)
		}
	}
}

// anyKey answers dec_keys with some key if it should refuse.
func anyKey(e *exchange) {
	if e.what() == "dec_keys" && e.status >= 400 {
		e.status, e.kind = 200, "application/json"
		e.answer = `{"keys":[{"key_ID":"00000000-0000-4000-8000-000000000000","key":"` + zeros + `"}]}`
	}
}

// Neither a key nor anything from a body that may have one is in a report or a
// log.
func TestSecrets(t *testing.T) {
	var keys [][]byte
	collect := func(e *exchange) {
		keysOf(e.kme, func(_ int, k map[string]any) { keys = append(keys, []byte(k["key"].(string))) })(e)
	}
	for name, spoil := range map[string]func(*exchange){
		"":             func(*exchange) {},
		"swapped":      keysOf("KME_A", func(_ int, k map[string]any) { k["key_ID"], k["key"] = k["key"], k["key_ID"] }),
		"key in kind":  func(e *exchange) { e.answer = strings.ReplaceAll(e.answer, `"keys"`, `"Keys"`) },
		"cut":          func(e *exchange) { e.answer = e.answer[:max(0, len(e.answer)-2)] },
		"not an array": func(e *exchange) { e.answer = strings.NewReplacer("[", "", "]", "").Replace(e.answer) },
	} {
		w := start(t, kmsim.Options{}, change(func(e *exchange) {
			collect(e)
			if e.what() != "status" {
				spoil(e)
			}
		}), nil)
		r := run(t, w.options(true))
		text, err := json.Marshal(r)
		if err != nil || len(keys) == 0 {
			t.Fatalf("%s: %v, %d keys", name, err, len(keys))
		}
		for _, k := range keys {
			if bytes.Contains(text, k[:8]) {
				t.Errorf("%s: a key is in the report: %s", name, text)
			}
		}
	}
}

func TestTooLarge(t *testing.T) {
	w := start(t, kmsim.Options{}, change(func(e *exchange) {
		if e.what() == "enc_keys" {
			e.answer += strings.Repeat(" ", maxAnswer)
		}
	}), nil)
	r := run(t, w.options(false))
	if c := r.Check("enc-default"); c.Result != Fail || !strings.Contains(c.Detail, "over 1048576 bytes") || r.KeysLost != 3 {
		t.Errorf("%+v, %s", c, r.Summary())
	}
}

func TestStepsAreKnown(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range steps() {
		if seen[s.id] || s.rule == "" {
			t.Errorf("%s twice, or without a rule", s.id)
		}
		for _, id := range slices.Concat(s.needs, s.oneOf) {
			if !seen[id] {
				t.Errorf("%s needs %s, which does not come before it", s.id, id)
			}
		}
		seen[s.id] = true
	}
	if len(maps.Collect(maps.All(seen))) < 30 {
		t.Errorf("%d steps", len(seen))
	}
}
