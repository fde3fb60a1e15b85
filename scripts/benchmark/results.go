package main

import (
	"fmt"
	"slices"
	"time"
)

// results is all that was measured.
type results struct {
	machine     [][2]string // what the figures belong to
	skipped     []string
	names       []string // of the contenders, in the order of the tables
	cells       map[cell]*series
	share       map[string]float64 // by "SUITE/OPERATION": of the suite's own cipher
	padKeys     map[int]float64    // by size: octets of key for an octet of message
	relayRows   []relayRow
	relayTables string // of scripts/bench-relay
	measured    time.Time
}

func newResults() results {
	return results{cells: map[cell]*series{}, share: map[string]float64{}, padKeys: map[int]float64{}, measured: time.Now()}
}

// at returns the series of a cell, which it makes where there is none.
func (r *results) at(c cell) *series {
	s, ok := r.cells[c]
	if !ok {
		s = &series{}
		r.cells[c] = s
	}
	return s
}

// peak is the memory of a cell in octets, 0 where it is not known.
func (r *results) peak(c cell) int64 {
	if s, ok := r.cells[c]; ok {
		return s.peak
	}
	return 0
}

// wall and cpu are medians.
func (s *series) wall() time.Duration {
	return median(s.samples, func(x sample) time.Duration { return x.wall })
}

func (s *series) cpu() time.Duration {
	return median(s.samples, func(x sample) time.Duration { return x.cpu })
}

// ratio is the median of the ratios of two contenders' times, round by round; ok
// says whether both were measured.
func (r *results) ratio(a, b, op string, size int) (ratio float64, ok bool) {
	sa, okA := r.cells[cell{a, op, size}]
	sb, okB := r.cells[cell{b, op, size}]
	if !okA || !okB || len(sa.samples) == 0 || len(sa.samples) != len(sb.samples) {
		return 0, false
	}
	ratios := make([]float64, len(sa.samples))
	for i := range ratios {
		ratios[i] = float64(sa.samples[i].wall) / float64(sb.samples[i].wall)
	}
	return median(ratios, func(x float64) float64 { return x }), true
}

// median returns the median of what value says of the elements, 0 for none.
func median[E any, N ~int64 | ~float64](list []E, value func(E) N) N {
	if len(list) == 0 {
		return 0
	}
	values := make([]N, len(list))
	for i, e := range list {
		values[i] = value(e)
	}
	slices.Sort(values)
	return (values[len(values)/2] + values[(len(values)-1)/2]) / 2
}

// sizeName is a size in octets as people say it.
func sizeName(octets int) string {
	switch {
	case octets >= giga:
		return fmt.Sprintf("%d GB", octets/giga)
	case octets >= mega:
		return fmt.Sprintf("%d MB", octets/mega)
	}
	return fmt.Sprintf("%d kB", octets/kilo)
}
