package kmsim

import (
	"maps"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

// A stock says how many keys of the default size a pair of SAEs has ready. The
// keys themselves are made when they are handed out, which makes no difference to
// callers.
type stock struct {
	rate     float64 // keys a second
	capacity float64 // keys; 0: keys are made on demand
	now      func() time.Time

	mu    sync.Mutex
	level float64   // keys
	at    time.Time // when level was computed
}

func newStock(o Options) *stock {
	s := &stock{rate: o.Rate, capacity: float64(o.Capacity), level: float64(o.Capacity), now: time.Now}
	s.at = s.now()
	return s
}

func (s *stock) onDemand() bool { return s.capacity == 0 }

// take removes n keys, if there are that many.
func (s *stock) take(n int) bool {
	if s.onDemand() {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refill()
	if s.level < float64(n) {
		return false
	}
	s.level -= float64(n)
	return true
}

// giveBack returns n keys that could not be handed out after all.
func (s *stock) giveBack(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.level = min(s.level+float64(n), s.capacity)
}

// count returns how many keys there are and can be.
func (s *stock) count() (ready, capacity int) {
	if s.onDemand() {
		return defaultCapacity, defaultCapacity
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refill()
	return int(s.level), int(s.capacity)
}

func (s *stock) refill() {
	now := s.now()
	s.level = min(s.level+now.Sub(s.at).Seconds()*s.rate, s.capacity)
	s.at = now
}

// A Stock says how many keys of the default size a pair of SAEs has ready.
type Stock struct {
	SAEs     []string // two of them; none with the QMail REST API, where all callers share a stock
	Ready    int      // keys
	Capacity int      // keys
	OnDemand bool     // keys are made on demand; the numbers mean nothing then
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
