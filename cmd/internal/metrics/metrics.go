// Package metrics counts events, and serves what it has counted and what it reads
// when it is asked in Prometheus's text format.
package metrics

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"sync"
)

// The types of a metric.
const (
	TypeCounter   = "counter"
	TypeGauge     = "gauge"
	TypeHistogram = "histogram"
	TypeSummary   = "summary"
)

// A Set is the metrics of a program. The zero value is an empty one.
type Set struct {
	mu      sync.Mutex
	sources []func(*Reading)
}

// Collect adds a source of metrics: read is called for each request.
func (s *Set) Collect(read func(*Reading)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sources = append(s.sources, read)
}

// Gather reads all sources. It returns the families by name, and the samples of each
// by labels.
func (s *Set) Gather() []*Family {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := &Reading{}
	for _, read := range s.sources {
		read(r)
	}
	families := slices.SortedFunc(maps.Values(r.families), func(a, b *Family) int { return cmp.Compare(a.Name, b.Name) })
	for _, f := range families {
		slices.SortStableFunc(f.Samples, func(a, b Sample) int { return slices.CompareFunc(a.Labels, b.Labels, compareLabels) })
	}
	return families
}

// A Reading is what metrics are at one time.
type Reading struct{ families map[string]*Family }

// A Family is a metric with the samples for all its labels.
type Family struct {
	Name, Help, Type string
	Samples          []Sample
}

// A Sample is one value. Those of a histogram or a summary have a suffix to the
// name, and le or quantile as well.
type Sample struct {
	Suffix string
	Labels []Label // by name
	At     Label   // le or quantile; the zero Label for none
	Value  float64
}

// A Label is the name of a label and its value.
type Label struct{ Name, Value string }

func compareLabels(a, b Label) int {
	return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Value, b.Value))
}

// Counter puts the value of a counter. labels are names and values in turn.
func (r *Reading) Counter(name, help string, value float64, labels ...string) {
	r.put(TypeCounter, name, help, Sample{Labels: pairs(labels), Value: value})
}

// Gauge puts the value of a gauge. labels are names and values in turn.
func (r *Reading) Gauge(name, help string, value float64, labels ...string) {
	r.put(TypeGauge, name, help, Sample{Labels: pairs(labels), Value: value})
}

func (r *Reading) put(kind, name, help string, samples ...Sample) {
	f := r.families[name]
	if f == nil {
		if r.families == nil {
			r.families = map[string]*Family{}
		}
		f = &Family{Name: name, Help: help, Type: kind}
		r.families[name] = f
	}
	f.Samples = append(f.Samples, samples...)
}

// pairs returns labels by name.
func pairs(namesAndValues []string) (labels []Label) {
	for l := range slices.Chunk(namesAndValues, 2) {
		labels = append(labels, Label{l[0], l[1]})
	}
	slices.SortFunc(labels, compareLabels)
	return labels
}

// A Vec is a metric with labels: one T for each combination of their values.
type Vec[T any] struct {
	labels []string
	create func() *T

	mu  sync.Mutex
	all map[string]*T // by the values, with a NUL byte between them
}

// With returns the T for the values of the labels, in the order of their names in
// the call that made v. It is made if need be.
func (v *Vec[T]) With(values ...string) *T {
	key := strings.Join(values, "\x00")
	v.mu.Lock()
	defer v.mu.Unlock()
	t := v.all[key]
	if t == nil {
		t = v.create()
		if v.all == nil {
			v.all = map[string]*T{}
		}
		v.all[key] = t
	}
	return t
}

// each calls use for each T.
func (v *Vec[T]) each(use func(labels []Label, t *T)) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for key, t := range v.all {
		var labels []string
		for i, value := range strings.Split(key, "\x00") {
			labels = append(labels, v.labels[i], value)
		}
		use(pairs(labels), t)
	}
}
