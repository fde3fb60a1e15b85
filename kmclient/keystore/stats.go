package keystore

import (
	"sync/atomic"
	"time"
)

// Stats counts what a Store has done since it was opened.
type Stats struct {
	Fetched   int64 // receiving keys that came from the key manager, and were new here
	FromStore int64 // receiving keys that were already in the store
	Stored    int64 // receiving keys committed
	Claimed   int64 // sending key IDs committed
	Bound     int64 // keys bound to a message
	Delivered int64 // recipients recorded

	BoundRefused  int64 // keys refused because they belong to another message: alarm
	ClosedRefused int64 // messages under a closed key for a recipient who has not received them: alarm
	Reused        int64 // key IDs that came again, to encrypt or decrypt with: alarm
	Changed       int64 // receiving keys that came again with different bytes: alarm
	StoreErrors   int64 // operations that failed because of the store

	Closed     int64 // keys closed here
	ClosedAtKM int64 // of these, also closed at the key manager
	Tombstones int64 // tombstones removed because of their age
	Waiting    int   // fetched keys that could not be stored yet: they are only in memory

	Swept time.Time // when a sweep last finished; zero: not yet
}

type counters struct {
	fetched, fromStore, stored, claimed, bound, delivered atomic.Int64
	boundRefused, closedRefused, reused, changed          atomic.Int64
	storeErrors                                           atomic.Int64
	closed, closedAtKM, tombstones                        atomic.Int64
	swept                                                 atomic.Pointer[time.Time]
}

// Stats returns the counts so far.
func (s *Store) Stats() Stats {
	c := &s.count
	s.mu.Lock()
	n := len(s.waiting)
	s.mu.Unlock()
	stats := Stats{
		Fetched: c.fetched.Load(), FromStore: c.fromStore.Load(), Stored: c.stored.Load(), Claimed: c.claimed.Load(),
		Bound: c.bound.Load(), Delivered: c.delivered.Load(), BoundRefused: c.boundRefused.Load(),
		ClosedRefused: c.closedRefused.Load(), Reused: c.reused.Load(), Changed: c.changed.Load(), StoreErrors: c.storeErrors.Load(),
		Closed: c.closed.Load(), ClosedAtKM: c.closedAtKM.Load(), Tombstones: c.tombstones.Load(), Waiting: n,
	}
	if at := c.swept.Load(); at != nil {
		stats.Swept = *at
	}
	return stats
}
