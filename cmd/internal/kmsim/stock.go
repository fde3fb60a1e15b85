package kmsim

import (
	"sync"
	"time"
)

// A stock is how many keys of the default size a pair of SAEs has ready. The
// keys themselves are made when they are handed out, which nobody can tell
// from outside.
type stock struct {
	rate     float64 // keys a second
	capacity float64 // keys; 0: keys are made on demand
	now      func() time.Time

	mu    sync.Mutex
	level float64
	at    time.Time // when level was right
}

func newStock(o Options) *stock {
	s := &stock{rate: o.Rate, capacity: float64(o.Capacity), level: float64(o.Capacity), now: time.Now}
	s.at = s.now()
	return s
}

func (s *stock) onDemand() bool { return s.capacity == 0 }

// take removes n keys, if there are as many.
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
