package kmclient

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
)

// refusedGet is the error for an answer to a request for fresh keys.
func refusedGet(status int, header http.Header, body string) *Error {
	return refusal(call{op: operationGetKeys}, status, header, []byte(body))
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
					if form == "details" && want == ErrBadRequest || form != "message" && text == "" {
						continue
					}
					e := refusedGet(status, nil, body)
					if !errors.Is(e, want) || want == ErrBadRequest && errors.Is(e, ErrLimit) {
						t.Errorf("HTTP %d, %q as %s: %v, want %v", status, text, form, e, want)
					}
					if e.Retry != (want == ErrKeyExhausted || want == ErrUnavailable) {
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

// Retry-After says that the request as such is right. Whether it is keys that
// are waited for, only words say.
func TestRefusedWithRetryAfter(t *testing.T) {
	header := http.Header{"Retry-After": {"30"}}
	for _, test := range []struct {
		status int
		body   string
		want   error
	}{
		{400, `{}`, ErrUnavailable},
		{400, ``, ErrUnavailable},
		{400, `{"message":"Bad Request"}`, ErrUnavailable},
		{400, `{"message":"The keys for this link are in preparation"}`, ErrKeyExhausted},
		{503, `{"message":"The keys for this link are in preparation"}`, ErrKeyExhausted},
		{503, `{}`, ErrUnavailable},
		{503, `<html>maintenance`, ErrUnavailable},
		{503, `{"message":"Key service in maintenance"}`, ErrUnavailable},
		{429, `{"message":"too many requests for keys"}`, ErrUnavailable},
		{400, `{"message":"number exceeds max_key_per_request"}`, ErrLimit},
		{401, `{"message":"keys later"}`, ErrRefused},
		{500, `{"message":"exception in the keys module"}`, ErrUnavailable},
	} {
		if e := refusedGet(test.status, header, test.body); !errors.Is(e, test.want) {
			t.Errorf("HTTP %d, Retry-After, %s: %v, want %v", test.status, test.body, e, test.want)
		}
	}
	if e := refusal(call{op: operationStatus}, 400, header, nil); !errors.Is(e, ErrUnavailable) || !e.Retry {
		t.Errorf("a status with 400 and Retry-After: %v, want ErrUnavailable", e)
	}
}

// A 401 for a key by its ID may speak of the key. It stays an ErrRefused, with
// which a relay waits.
func TestRefusedByID(t *testing.T) {
	for _, test := range []struct {
		op     string
		status int
		body   string
		want   error
		words  string
	}{
		{operationKeysByID, 401, ``, ErrRefused, "a key that it does not hold"},
		{operationKeysByID, 403, `{"message":"key not found"}`, ErrRefused, "another SAE's"},
		{operationGetKeys, 401, ``, ErrRefused, "HTTP 401"},
		{operationKeysByID, 400, `{"message":"one or more keys specified are not found on KME"}`, ErrKeyNotFound, "not found"},
		{operationKeysByID, 404, ``, ErrKeyNotFound, ""},
		{operationKeysByID, 503, `{"message":"not enough keys"}`, ErrUnavailable, ""},
		{operationCloseKey, 404, ``, ErrKeyNotFound, ""},
	} {
		e := refusal(call{op: test.op, ids: []string{"x"}}, test.status, nil, []byte(test.body))
		if !errors.Is(e, test.want) || !strings.Contains(e.Error(), test.words) {
			t.Errorf("%s, HTTP %d: %v, want %v with %q", test.op, test.status, e, test.want, test.words)
		}
		if test.op == operationGetKeys && strings.Contains(e.Error(), "does not hold") {
			t.Errorf("a 401 for fresh keys speaks of a key: %v", e)
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
		`{"error":"` + long + `"}`:                 long[:2*(maxMessage-1)] + "…",
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
	if d := details(`{"details":[{"z":"` + strings.Repeat("é", 300) + `\u001b"}]}`); len([]rune(d[0])) != maxMessage {
		t.Errorf("a detail of %d characters, want %d", len([]rune(d[0])), maxMessage)
	}
	for _, body := range []string{``, `<html>`, `{"details":"text"}`, `{"details":{}}`, `[]`} {
		if d := details(body); d != nil {
			t.Errorf("%s: details are %q, want none", body, d)
		}
	}
}
