package kmsim

import (
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// A Request is what Options.Observe is told of a request. Nothing in it is what
// a caller chose.
type Request struct {
	KME       string // its ID; "": the QMail REST API
	Operation string // status, enc_keys, dec_keys; get, by_id, close; or other
	Status    int    // of HTTP; 0: no answer was sent
	Keys      int    // handed out
	Took      time.Duration
}

// operation names what a request asks for.
func operation(r *http.Request) string {
	const other = "other"
	s := pathSegments(r)
	switch {
	case len(s) == 5 && (s[4] == "status" || s[4] == "enc_keys" || s[4] == "dec_keys"):
		return s[4]
	case len(s) == 3 && s[2] == "status":
		return s[2]
	case len(s) != 4 || s[2] != "keys":
		return other
	case r.Method == http.MethodPost && s[3] == "get":
		return "get"
	case r.Method == http.MethodGet, r.Method == http.MethodHead:
		return "by_id"
	case r.Method == http.MethodDelete:
		return "close"
	}
	return other
}

// A Stock is how many keys of the default size a pair of SAEs has ready.
type Stock struct {
	SAEs     []string // two of them; none with the QMail REST API, whose stock is everybody's
	Ready    int      // keys
	Capacity int      // keys
	OnDemand bool     // keys are made when they are asked for; the numbers mean nothing then
}

func (s *stock) describe(saes ...string) Stock {
	ready, capacity := s.count()
	return Stock{SAEs: saes, Ready: ready, Capacity: capacity, OnDemand: s.onDemand()}
}

// Stocks returns the stock that all callers share.
func (q *QMail) Stocks() []Stock { return []Stock{q.stock.describe()} }

// Stocks returns the stock of each pair of SAEs, in the order of their IDs.
func (e *ETSI) Stocks() []Stock {
	var all []Stock
	for _, pool := range slices.Sorted(maps.Keys(e.network.stocks)) {
		a, b, _ := strings.Cut(pool, "/")
		a, _ = url.PathUnescape(a) // as poolOf has escaped them
		b, _ = url.PathUnescape(b)
		all = append(all, e.network.stocks[pool].describe(a, b))
	}
	return all
}
