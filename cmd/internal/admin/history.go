package admin

import (
	"sync"
	"time"
)

// totals are what has been counted since the start.
type totals struct{ Delivered, Deferred, Refused int64 }

func (t totals) minus(o totals) totals {
	return totals{t.Delivered - o.Delivered, t.Deferred - o.Deferred, t.Refused - o.Refused}
}

func (t *totals) add(o totals) {
	t.Delivered += o.Delivered
	t.Deferred += o.Deferred
	t.Refused += o.Refused
}

// A history has the counts of the last hour, minute by minute, and of the last
// day, in steps of ten minutes. The more often note is called, the more exact it
// is.
type history struct {
	mu   sync.Mutex
	last totals
	hour ring
	day  ring
}

func newHistory() *history {
	return &history{hour: newRing(time.Minute, 60), day: newRing(10*time.Minute, 144)}
}

// note adds what was counted since the last call.
func (h *history) note(now time.Time, t totals) {
	h.mu.Lock()
	defer h.mu.Unlock()
	more := t.minus(h.last)
	h.last = t
	h.hour.add(now, more)
	h.day.add(now, more)
}

// series returns both, oldest first.
func (h *history) series(now time.Time) (hour, day []bucket) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.hour.list(now), h.day.list(now)
}

// A bucket is what was counted in the step that begins at From.
type bucket struct {
	From time.Time
	totals
}

// A ring has the latest buckets.
type ring struct {
	step    time.Duration
	buckets []bucket
}

func newRing(step time.Duration, n int) ring { return ring{step, make([]bucket, n)} }

func (r *ring) at(t time.Time) *bucket {
	return &r.buckets[t.Unix()/int64(r.step/time.Second)%int64(len(r.buckets))]
}

func (r *ring) add(now time.Time, t totals) {
	from := now.UTC().Truncate(r.step)
	b := r.at(from)
	if !b.From.Equal(from) {
		*b = bucket{From: from}
	}
	b.add(t)
}

func (r *ring) list(now time.Time) []bucket {
	list := make([]bucket, len(r.buckets))
	newest := now.UTC().Truncate(r.step)
	for i := range list {
		from := newest.Add(-time.Duration(len(list)-1-i) * r.step)
		list[i].From = from
		if b := r.at(from); b.From.Equal(from) {
			list[i] = *b
		}
	}
	return list
}
