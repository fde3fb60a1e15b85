package kmhttp

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/internal/redact"
)

// What is named a key is removed, whatever it looks like, and cutting a text does not
// leave the beginning of one.
func TestWordsWithoutKeys(t *testing.T) {
	const short = "c2hvcnQ=" // too short to be noticed
	for name, body := range map[string]string{
		"member":          `{"message":"bad","details":[{"key":"` + short + `","n":1}]}`,
		"in any case":     `{"message":"bad","details":[{"KEY":"` + short + `","n":1}]}`,
		"keys":            `{"message":"bad","details":[{"n":1,"Keys":[{"x":"` + short + `"}]}]}`,
		"deep":            `{"message":"bad","details":[{"n":1,"a":[[{"b":{"key":["` + short + `"]}}]]}]}`,
		"message is one":  `{"message":{"key":"` + short + `"},"error":"bad","details":[{"n":1}]}`,
		"bytes":           `{"message":"bad","details":[{"n":1,"a":[17,34,51,68,85,102,119,136]}]}`,
		"name twice":      `{"message":"bad","details":[{"n":1,"key":"` + short + `","key":"` + short + `"}]}`,
		"escaped name":    `{"message":"bad","details":[{"n":1,"k\u0065y":"` + short + `"}]}`,
		"cut off":         `{"message":"bad ` + strings.Repeat("word ", 38) + `q83vEjRWeJCrze8SNFZ4kA","details":[{"n":1}]}`,
		"control between": `{"message":"bad q83vEjRW\u0000eJCrze8S\u200bNFZ4kA","details":[{"n":1}]}`,
	} {
		e := refusedGet(400, nil, body)
		if text := e.Error(); !strings.Contains(text, "bad") || strings.Contains(text, "short") || strings.Contains(text, short) ||
			strings.Contains(text, "q83v") || strings.Contains(text, "119") {
			t.Errorf("%s: %s", name, text)
		}
		if len(e.Details) != 1 || !strings.Contains(e.Details[0], `"n":1`) {
			t.Errorf("%s: details are %q, want everything but keys", name, e.Details)
		}
	}
}

// refusedGet is the error for an answer to a request for fresh keys.
func refusedGet(status int, header http.Header, body string) *kmclient.Error {
	return Refusal(Call{Op: OpGetKeys}, status, header, []byte(body))
}

func TestRefusedKeys(t *testing.T) {
	cases := 0
	for want, texts := range wordings() {
		for text, statuses := range texts {
			for _, status := range statuses {
				cases++
				for form, body := range map[string]string{
					"message": `{"message":` + strconv.Quote(text) + `}`,
					"details": `{"message":"Request not served.","details":[{"reason":` + strconv.Quote(text) + `}]}`,
					"nested":  `{"error":{"code":4711,"message":` + strconv.Quote(text) + `},"path":"/api/v1/keys/SAE_B/enc_keys"}`,
					"code":    `{"message":"Sorry","error_code":` + strconv.Quote(text) + `}`,
					"text":    text + "\n",
				} {
					if form == "details" && want == kmclient.ErrBadRequest || form != "message" && text == "" {
						continue
					}
					e := refusedGet(status, nil, body)
					if !errors.Is(e, want) || want == kmclient.ErrBadRequest && errors.Is(e, kmclient.ErrLimit) {
						t.Errorf("HTTP %d, %q as %s: %v, want %v", status, text, form, e, want)
					}
					if e.Retry != (want == kmclient.ErrKeyExhausted || want == kmclient.ErrUnavailable) {
						t.Errorf("HTTP %d, %q as %s: Retry is %t", status, text, form, e.Retry)
					}
				}
			}
		}
	}
	if cases < 150 {
		t.Errorf("only %d cases", cases)
	}
}

// Retry-After says that the request as such is valid. Only words say whether the wait
// is for keys.
func TestRefusedWithRetryAfter(t *testing.T) {
	header := http.Header{"Retry-After": {"30"}}
	for _, test := range []struct {
		status int
		body   string
		want   error
	}{
		{400, `{}`, kmclient.ErrUnavailable},
		{400, ``, kmclient.ErrUnavailable},
		{400, `{"message":"Bad Request"}`, kmclient.ErrUnavailable},
		{400, `{"message":"The keys for this link are in preparation"}`, kmclient.ErrKeyExhausted},
		{503, `{"message":"The keys for this link are in preparation"}`, kmclient.ErrKeyExhausted},
		{503, `{}`, kmclient.ErrUnavailable},
		{503, `<html>maintenance`, kmclient.ErrUnavailable},
		{503, `{"message":"Key service in maintenance"}`, kmclient.ErrUnavailable},
		{429, `{"message":"too many requests for keys"}`, kmclient.ErrUnavailable},
		{400, `{"message":"number exceeds max_key_per_request"}`, kmclient.ErrLimit},
		{401, `{"message":"keys later"}`, kmclient.ErrRefused},
		{500, `{"message":"exception in the keys module"}`, kmclient.ErrUnavailable},
	} {
		if e := refusedGet(test.status, header, test.body); !errors.Is(e, test.want) {
			t.Errorf("HTTP %d, Retry-After, %s: %v, want %v", test.status, test.body, e, test.want)
		}
	}
	if e := Refusal(Call{Op: OpStatus}, 400, header, nil); !errors.Is(e, kmclient.ErrUnavailable) || !e.Retry {
		t.Errorf("a status with 400 and Retry-After: %v, want ErrUnavailable", e)
	}
}

// A 401 for a key by its ID may be about the key. It stays kmclient.ErrRefused, on
// which a relay waits.
func TestRefusedByID(t *testing.T) {
	for _, test := range []struct {
		op     string
		status int
		body   string
		want   error
		words  string
	}{
		{OpKeysByID, 401, ``, kmclient.ErrRefused, "a key that is unknown"},
		{OpKeysByID, 403, `{"message":"key not found"}`, kmclient.ErrRefused, "another SAE's"},
		{OpGetKeys, 401, ``, kmclient.ErrRefused, "HTTP 401"},
		{OpKeysByID, 400, `{"message":"one or more keys specified are not found on KME"}`, kmclient.ErrKeyNotFound, "not found"},
		{OpKeysByID, 404, ``, kmclient.ErrKeyNotFound, ""},
		{OpKeysByID, 503, `{"message":"not enough keys"}`, kmclient.ErrUnavailable, ""},
		{OpCloseKey, 404, ``, kmclient.ErrKeyNotFound, ""},
	} {
		e := Refusal(Call{Op: test.op, IDs: []string{"x"}}, test.status, nil, []byte(test.body))
		if !errors.Is(e, test.want) || !strings.Contains(e.Error(), test.words) {
			t.Errorf("%s, HTTP %d: %v, want %v with %q", test.op, test.status, e, test.want, test.words)
		}
		if test.op == OpGetKeys && strings.Contains(e.Error(), "does not hold") {
			t.Errorf("a 401 for fresh keys mentions a key: %v", e)
		}
	}
}

func TestSaysNotFound(t *testing.T) {
	for message, want := range map[string]bool{
		"one or more keys specified are not found on KME": true,
		"Key not found":                  true,
		"unknown key ID":                 true,
		"KME: key_ID does not exist":     true,
		"No such key":                    true,
		"no key with this ID":            true,
		"key has already been consumed":  true,
		"The key ID isn't known":         true,
		"":                               false,
		"not found":                      false,
		"slave SAE not found for keys":   false,
		"key_IDs must not be empty":      false,
		"size shall be a multiple of 8":  false,
		"path /api/v1/keys/x not found":  false,
		"key service unavailable":        false,
		"resource not found: keys":       false,
		"monkeys not found":              false,
		"number of keys is not allowed":  false,
		"the KME could not decrypt keys": false,
	} {
		if got := saysNotFound(message); got != want {
			t.Errorf("%q: taken as a key not found: %t, want %t", message, got, want)
		}
	}
}

func TestWords(t *testing.T) {
	long := strings.Repeat("é", 300)
	for body, want := range map[string]string{
		`{"message":"a","error":"b"}`:           "a",
		`{"message":"","error":"b"}`:            "b",
		`{"message":1,"error":{},"detail":"c"}`: "c",
		`{"detail":[{"msg":"x"}]}`:              "x",
		`{"error":{"message":"nested"}}`:        "nested",
		`<html>`:                                "",
		`"text"`:                                "text",
		"No keys available\n":                   "No keys available",
		`{"message":"cut off`:                   "",
		``:                                      "",
		"\x01\x02raw":                           "",
		`{"message":"a\r\nb\u001b[31m \u202e c"}`:  "a b[31m c",
		`{"error":"` + long + `"}`:                 long[:2*(redact.MaxLength-1)] + "…",
		"{\"message\":\"\xff\xfe bad \xc3\x28\"} ": "bad (",
	} {
		if got := readWords([]byte(body), nil).message; got != want {
			t.Errorf("%.60s: got %q, want %q", body, got, want)
		}
	}
	details := func(body string) []string { return readWords([]byte(body), nil).details }
	many := fmt.Sprintf(`{"details":[%s{"z":"%s"}]}`, strings.Repeat(`{"a":1},`, 20), strings.Repeat("x", 300))
	if d := details(many); len(d) != maxDetails || d[0] != `{"a":1}` {
		t.Errorf("of 21 details %d are kept: %q", len(d), d)
	}
	if d := details(`{"details":[{"z":"` + strings.Repeat("é", 300) + `\u001b"}]}`); len([]rune(d[0])) != redact.MaxLength {
		t.Errorf("a detail of %d characters, want %d", len([]rune(d[0])), redact.MaxLength)
	}
	for _, body := range []string{``, `<html>`, `{"details":"text"}`, `{"details":{}}`, `[]`} {
		if d := details(body); d != nil {
			t.Errorf("%s: details are %q, want none", body, d)
		}
	}
}
