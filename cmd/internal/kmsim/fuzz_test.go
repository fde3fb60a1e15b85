package kmsim

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
)

// answerTo returns the answer to a fuzzer's request, nil if it can't be sent at
// all.
func answerTo(h http.Handler, caller, method, target, kind string, body []byte) *httptest.ResponseRecorder {
	r, err := http.NewRequest(method, target, bytes.NewReader(body))
	if err != nil {
		return nil
	}
	r.Header.Set("Content-Type", kind)
	cert := &x509.Certificate{Subject: pkix.Name{CommonName: caller}}
	r.TLS = &tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{cert}}}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// checkAnswer checks the properties of every answer.
func checkAnswer(t *testing.T, w *httptest.ResponseRecorder, codes ...int) {
	t.Helper()
	if !slices.Contains(append(codes, 200, 400, 404, 405, 413, 415), w.Code) {
		t.Fatalf("HTTP %d: %s", w.Code, w.Body)
	}
	if w.Code == 401 {
		if w.Body.Len() != 0 {
			t.Fatalf("a 401 with a body: %s", w.Body)
		}
		return
	}
	var e struct {
		Message string `json:"message"`
	}
	if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil || w.Code != 200 && e.Message == "" {
		t.Fatalf("HTTP %d: %s", w.Code, w.Body)
	}
}

func FuzzETSIRequest(f *testing.F) {
	f.Add("POST", "/api/v1/keys/SAE_B/enc_keys", "application/json", []byte(`{"number":2,"size":64,"additional_slave_SAE_IDs":["SAE_C"]}`))
	f.Add("GET", "/api/v1/keys/SAE_B/enc_keys?number=3&size=128", "", []byte{})
	f.Add("POST", "/api/v1/keys/SAE_B/dec_keys", "application/json", []byte(`{"key_IDs":[{"key_ID":"x"}]}`))
	f.Fuzz(func(t *testing.T, method, target, kind string, body []byte) {
		e, err := NewETSI(testTopology(), Options{MaxSAEIDs: 2, MaxKeySize: 1024})
		if err != nil {
			t.Fatal(err)
		}
		h, err := e.Handler(atA)
		if err != nil {
			t.Fatal(err)
		}
		// A key that SAE_B got for SAE_A must stay, whatever SAE_A asks for.
		given := answerTo(e.kmes[atB], b, "GET", "/api/v1/keys/SAE_A/enc_keys", "", nil)
		w := answerTo(h, a, method, target, kind, body)
		if w == nil {
			return
		}
		checkAnswer(t, w, 401)
		_, ids := message{status: given.Code, body: given.Body.Bytes()}.keys(t)
		w = answerTo(h, a, "GET", "/api/v1/keys/SAE_B/dec_keys?key_ID="+ids[0], "", nil)
		if w.Code != 200 || w.Body.String() != given.Body.String() {
			t.Fatalf("the key of another request: HTTP %d: %s", w.Code, w.Body)
		}
	})
}

func FuzzQMailRequest(f *testing.F) {
	f.Add("POST", "/api/v1/keys/get", "application/json", []byte(`{"key_size":128,"number":2,"extension_mandatory":[{"x":[1]}]}`))
	f.Add("GET", "/api/v1/keys/a%2Fb", "", []byte{})
	f.Add("DELETE", "/api/v1/keys/x", "", []byte{})
	f.Fuzz(func(t *testing.T, method, target, kind string, body []byte) {
		q, err := NewQMail(Options{MaxKeySize: 1024})
		if err != nil {
			t.Fatal(err)
		}
		if w := answerTo(q, "", method, target, kind, body); w != nil {
			checkAnswer(t, w)
		}
	})
}
