package kmdoctor

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/qkdmail/qkdmail/cmd/internal/kmsim"
)

// A run uses up no more keys than it may, and says how many it used, even with a
// KME that gives whatever it is asked for.
func TestKeysAreBounded(t *testing.T) {
	generous := kmsim.Options{Quirks: kmsim.Quirks{IgnoreLimits: true}}
	small := kmsim.Options{MaxKeysPerRequest: 8, MaxKeySize: 1024, Quirks: kmsim.Quirks{IgnoreLimits: true}}
	for name, test := range map[string]struct {
		o          kmsim.Options
		most       int // Options.MaxKeys
		fail, skip string
	}{
		"the default":           {generous, 0, "", "refuse-number refuse-size"},
		"small limits":          {small, 0, "refuse-number refuse-size", ""},
		"enough for all checks": {generous, 3000, "refuse-number refuse-size", ""},
		"just enough":           {kmsim.Options{}, 6 + 129, "", "refuse-size"},
		"hardly any":            {kmsim.Options{}, 2, "", "enc-number enc-size enc-get enc-optional dec-get dec-stranger dec-own dec-whole dec-later refuse-number refuse-size"},
	} {
		t.Run(name, func(t *testing.T) {
			w := start(t, test.o, nil, nil)
			o := w.options(true)
			o.MaxKeys = test.most
			r := run(t, o)
			if name != "hardly any" {
				expect(t, r, Fail, test.fail)
				expect(t, r, Skip, test.skip)
			}
			most := test.most
			if most == 0 {
				most = DefaultMaxKeys
			}
			if given := int(w.given.Load()); r.KeysUsed != given || given > most {
				t.Errorf("the report says %d keys used; the KME gave out %d, and was allowed %d", r.KeysUsed, given, most)
			}
			for _, c := range r.Checks {
				if c.ID == "refuse-size" && c.Result == Skip && !strings.Contains(c.Detail, fmt.Sprintf("the run may use %d", most)) {
					t.Errorf("%s does not say why it is skipped: %s", c.ID, c.Detail)
				}
			}
		})
	}
	// A KME that gives more than it is asked for ends the run's requests for
	// keys.
	w := start(t, kmsim.Options{}, change(func(e *exchange) {
		if e.what() == "enc_keys" && e.status == 200 {
			e.body = `{"number":100,"size":64}`
			e.again()
		}
	}), nil)
	o := w.options(false)
	o.MaxKeys = 0
	if r := run(t, o); r.KeysUsed != 100 || r.Check("enc-number").Result != Skip {
		t.Errorf("a KME that gives 100 keys whatever it is asked for: %s", r.Summary())
	}
}

// The report asks whether the certificate is right only if the KME has named
// another SAE. An SAE that the KME does not name keeps no other check from being
// made.
func TestUnnamedSAE(t *testing.T) {
	for name, test := range map[string]struct {
		value      any
		fail, warn string
		asks       bool
	}{
		"another SAE": {"SAE_X", "status-sae peer-status", "", true},
		"no SAE":      {nil, "status-fields status-sae", "peer-status", false},
		"an empty ID": {"", "status-sae", "peer-status", false},
		"a number":    {7, "status-fields status-sae", "peer-status", false},
	} {
		t.Run(name, func(t *testing.T) {
			w := start(t, kmsim.Options{}, change(member("master_SAE_ID", test.value)), nil)
			r := run(t, w.options(true))
			expect(t, r, Fail, test.fail)
			expect(t, r, Warn, test.warn)
			expect(t, r, Skip, "")
			text, err := json.Marshal(r)
			if asks := strings.Contains(string(text), "right certificate"); err != nil || asks != test.asks {
				t.Errorf("asks for the certificate: %t, want %t (%v)", asks, test.asks, err)
			}
		})
	}
}

// A KME that hands a key to anyone who asks is blamed for that, and not for a
// key that is gone afterwards because the doctor got it.
func TestStrangerIsServed(t *testing.T) {
	taken := map[string]bool{} // keys that a stranger got; requests come one after the other
	open := func(e *exchange) {
		if e.kme == "KME_A" && e.what() == "dec_keys" && e.status == 401 {
			var q struct {
				IDs []struct {
					ID string `json:"key_ID"`
				} `json:"key_IDs"`
			}
			if json.Unmarshal([]byte(e.body), &q) != nil || len(q.IDs) != 1 {
				return
			}
			e.status, e.kind = 200, "application/json"
			e.answer = `{"keys":[{"key_ID":"` + q.IDs[0].ID + `","key":"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="}]}`
			taken[q.IDs[0].ID] = true
		} else if e.kme == "KME_B" && e.what() == "dec_keys" {
			for id := range taken {
				if strings.Contains(e.body, id) { // it is gone
					e.status, e.kind, e.answer = 400, "application/json", `{"message":"one or more keys specified are not found on KME"}`
				}
			}
		}
	}
	w := start(t, kmsim.Options{}, change(open), nil)
	r := run(t, w.options(true))
	expect(t, r, Fail, "dec-stranger dec-own")
}

// A KME that takes only one key ID per request gives the right keys.
func TestOneIDARequest(t *testing.T) {
	for _, words := range []string{"key_IDs shall have 1 to 1 IDs", "only one key_ID per request", "too many key IDs"} {
		w := start(t, kmsim.Options{}, func(_ string, h http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				if strings.HasSuffix(r.URL.Path, "/dec_keys") && bytes.Count(body, []byte(`"key_ID"`)) > 1 {
					w.Header().Set("Content-Type", "application/json")
					w.WriteHeader(http.StatusBadRequest)
					_, _ = io.WriteString(w, `{"message":"`+words+`"}`)
					return
				}
				r.Body = io.NopCloser(bytes.NewReader(body))
				h.ServeHTTP(w, r)
			})
		}, nil)
		r := run(t, w.options(true))
		expect(t, r, Fail, "")
		expect(t, r, Warn, "dec-keys dec-later")
		if c := r.Check("dec-keys"); !strings.Contains(c.Detail, "one by one the same keys come") {
			t.Errorf("%s: %s", words, c.Detail)
		}
		if c := r.Check("dec-deleted"); c.Result != Pass {
			t.Errorf("%s: dec-deleted is not checked: %s", words, c.Detail)
		}
	}
}

// Nothing is prescribed for the body of a 401.
func TestUnauthorizedPage(t *testing.T) {
	w := start(t, kmsim.Options{}, change(func(e *exchange) {
		if e.status == 401 {
			e.kind, e.answer = "text/html", "<!DOCTYPE html><h1>401</h1>"
		}
	}), nil)
	r := run(t, w.options(true))
	expect(t, r, Fail, "")
	expect(t, r, Warn, "")
}

// A size that is not a multiple of 8 may be refused or rounded up, but not
// ignored.
func TestNoMultipleOf8(t *testing.T) {
	for bits, want := range map[int]Result{264: Warn, 320: Warn, 512: Warn, 256: Fail, 128: Fail, 1024: Fail} {
		w := start(t, kmsim.Options{}, change(func(e *exchange) {
			if e.what() == "enc_keys" && strings.Contains(e.body, "257") {
				e.body = fmt.Sprintf(`{"size":%d}`, bits)
				e.again()
			}
		}), nil)
		r := run(t, w.options(false))
		if c := r.Check("refuse-multiple"); c.Result != want || !strings.Contains(c.Detail, fmt.Sprint(bits)) {
			t.Errorf("257 bits asked for and %d given: %s, %s, want %s", bits, c.Result, c.Detail, want)
		}
	}
}

// If the real limit is lower than the one in the status, the report says so.
func TestLimitIsLess(t *testing.T) {
	w := start(t, kmsim.Options{}, change(func(e *exchange) {
		if e.what() == "enc_keys" && (strings.Contains(e.body, `"number":2`) || e.r.URL.RawQuery != "") {
			e.status, e.kind, e.answer = 400, "application/json", `{"message":"at most one key per request"}`
		}
	}), nil)
	r := run(t, w.options(true))
	expect(t, r, Fail, "enc-number enc-get")
	if c := r.Check("enc-number"); !strings.Contains(c.Detail, "though the status allows it (max_key_per_request 128") {
		t.Errorf("%s", c.Detail)
	}
}
