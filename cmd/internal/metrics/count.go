package metrics

import (
	"math"
	"sync/atomic"
)

// A Counter counts events. Counting takes no lock.
type Counter struct{ n atomic.Int64 }

// Add adds n, which must not be negative.
func (c *Counter) Add(n int) { c.n.Add(int64(n)) }

// Counters adds a counter with labels.
func (s *Set) Counters(name, help string, labels ...string) *Vec[Counter] {
	v := &Vec[Counter]{labels: labels, create: func() *Counter { return &Counter{} }}
	s.Collect(func(r *Reading) {
		v.each(func(labels []Label, c *Counter) {
			r.put(TypeCounter, name, help, Sample{Labels: labels, Value: float64(c.n.Load())})
		})
	})
	return v
}

// A Histogram counts values by their size. Counting takes no lock.
type Histogram struct {
	bounds  []float64 // ascending
	buckets []atomic.Uint64
	sum     atomic.Uint64 // bits of a float64
}

// Histograms adds a histogram with labels. bounds are those of its buckets, ascending
// and without infinity.
func (s *Set) Histograms(name, help string, bounds []float64, labels ...string) *Vec[Histogram] {
	v := &Vec[Histogram]{labels: labels, create: func() *Histogram {
		return &Histogram{bounds: bounds, buckets: make([]atomic.Uint64, len(bounds)+1)}
	}}
	s.Collect(func(r *Reading) {
		v.each(func(labels []Label, h *Histogram) { r.put(TypeHistogram, name, help, h.samples(labels)...) })
	})
	return v
}

// Observe counts a value.
func (h *Histogram) Observe(value float64) {
	i := 0
	for i < len(h.bounds) && value > h.bounds[i] {
		i++
	}
	h.buckets[i].Add(1)
	for {
		old := h.sum.Load()
		if h.sum.CompareAndSwap(old, math.Float64bits(math.Float64frombits(old)+value)) {
			return
		}
	}
}

func (h *Histogram) samples(labels []Label) []Sample {
	all := make([]Sample, 0, len(h.buckets)+2)
	count := uint64(0)
	for i := range h.buckets {
		bound := math.Inf(1)
		if i < len(h.bounds) {
			bound = h.bounds[i]
		}
		count += h.buckets[i].Load()
		all = append(all, Sample{"_bucket", labels, Label{"le", text(bound)}, float64(count)})
	}
	return append(all,
		Sample{Suffix: "_sum", Labels: labels, Value: math.Float64frombits(h.sum.Load())},
		Sample{Suffix: "_count", Labels: labels, Value: float64(count)})
}
