package kmsim

import (
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
)

func TestOperation(t *testing.T) {
	for request, want := range map[string]string{
		"GET /api/v1/keys/SAE_B/status":     "status",
		"POST /api/v1/keys/SAE_B/enc_keys":  "enc_keys",
		"GET /api/v1/keys/SAE_A/dec_keys":   "dec_keys",
		"GET /api/v1/keys/SAE_A/any_other":  "other",
		"GET /api/v1/status":                "status",
		"POST /api/v1/keys/get":             "get",
		"GET /api/v1/keys/get":              "by_id",
		"HEAD /api/v1/keys/an-id":           "by_id",
		"DELETE /api/v1/keys/an-id":         "close",
		"PUT /api/v1/keys/an-id":            "other",
		"GET /":                             "other",
		"GET /api/v1/what/an-id":            "other",
		"GET /api/v1/keys/%zz/status/again": "other",
	} {
		method, path, _ := strings.Cut(request, " ")
		r := &http.Request{Method: method, URL: httptest.NewRequest(method, "/", nil).URL}
		r.URL.Path, r.URL.RawPath = strings.ReplaceAll(path, "%zz", "zz"), path
		if got := operation(r); got != want {
			t.Errorf("%s: %q, want %q", request, got, want)
		}
	}
}

func TestObserveAndStocks(t *testing.T) {
	var seen []Request
	km, err := NewQMail(Options{Capacity: 10, Observe: func(r Request) { seen = append(seen, r) }})
	if err != nil {
		t.Fatal(err)
	}
	ask := func(method, path, body string) {
		r := httptest.NewRequest(method, path, strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		km.ServeHTTP(httptest.NewRecorder(), r)
	}
	ask("POST", "/api/v1/keys/get", `{"key_size":256,"number":3}`)
	ask("GET", "/api/v1/keys/unknown", "")
	for i := range seen {
		if seen[i].Took <= 0 {
			t.Errorf("request %d took %v", i, seen[i].Took)
		}
		seen[i].Took = 0
	}
	if want := []Request{{Operation: "get", Status: 200, Keys: 3}, {Operation: "by_id", Status: 404}}; !reflect.DeepEqual(seen, want) {
		t.Errorf("told of %+v, want %+v", seen, want)
	}
	if got, want := km.Stocks(), []Stock{{Ready: 7, Capacity: 10}}; !reflect.DeepEqual(got, want) {
		t.Errorf("stocks %+v, want %+v", got, want)
	}
}

func TestStocksOfPairs(t *testing.T) {
	topology := Topology{KMEs: []string{"K"}, SAEs: []SAE{{"B/1", "K"}, {"A", "K"}, {"C", "K"}}}
	km, err := NewETSI(topology, Options{})
	if err != nil {
		t.Fatal(err)
	}
	var pairs []string
	for _, s := range km.Stocks() {
		if !s.OnDemand {
			t.Errorf("%+v: want keys on demand", s)
		}
		pairs = append(pairs, strings.Join(s.SAEs, " "))
	}
	if want := []string{"A B/1", "A C", "B/1 C"}; !reflect.DeepEqual(pairs, want) {
		t.Errorf("pairs %q, want %q", pairs, want)
	}
}
