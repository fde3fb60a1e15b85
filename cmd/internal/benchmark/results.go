package main

import (
	"fmt"
	"slices"
	"time"
)

// The figures of a sample. Those of a relay are for each message.
const (
	figTime     = "time_ms"     // of a whole process
	figCPU      = "cpu_us"      // user and system time of all threads
	figPeak     = "peak_mib"    // memory
	figRate     = "rate"        // messages a second
	figRequests = "km_requests" // to the key manager
)

// A sample is what one run measured, by the name of the figure.
type sample map[string]float64

// A row is what was measured of a contender in one way and with one size of
// messages.
type row struct {
	Who    string `json:"who"`
	Way    string `json:"way"` // encrypt or decrypt; for a relay, how mail comes
	Bytes  int    `json:"bytes"`
	Median sample `json:"median"`
	// Ratio is the median of the ratios within a round: the time of qkdmail with
	// AES-256-GCM divided by that of this program, or the rate of this relay
	// divided by that of the pass-through.
	Ratio float64 `json:"ratio,omitempty"`

	samples []sample
}

// results are what was measured, as -json writes them.
type results struct {
	Measured time.Time          `json:"measured"`
	Machine  [][2]string        `json:"machine"`
	Skipped  []string           `json:"skipped,omitempty"`
	Shares   map[string]float64 `json:"shares,omitempty"` // of a cipher's own speed, by SUITE/OPERATION
	Rows     []*row             `json:"rows"`
}

// find returns what was measured of a contender, or an empty row.
func (r *results) find(who, way string, size int) *row {
	for _, row := range r.Rows {
		if row.Who == who && row.Way == way && row.Bytes == size {
			return row
		}
	}
	return &row{Who: who, Way: way, Bytes: size, Median: sample{}}
}

// add adds a sample of a contender.
func (r *results) add(who, way string, size int, s sample) {
	row := r.find(who, way, size)
	if row.samples == nil {
		r.Rows = append(r.Rows, row)
	}
	row.samples = append(row.samples, s)
}

// in returns the rows of one way.
func (r *results) in(way string) (rows []*row) {
	return slices.DeleteFunc(slices.Clone(r.Rows), func(row *row) bool { return row.Way != way })
}

// conclude computes medians and ratios.
func (r *results) conclude() {
	r.Measured = time.Now()
	for _, row := range r.Rows {
		values := map[string][]float64{}
		for _, s := range row.samples {
			for figure, v := range s {
				values[figure] = append(values[figure], v)
			}
		}
		for figure, v := range values {
			row.Median[figure] = median(v)
		}
		compared := ratios(r.find(nameAES, row.Way, row.Bytes), row, figTime)
		if len(compared) == 0 {
			compared = ratios(row, r.find(namePass, row.Way, row.Bytes), figRate)
		}
		row.Ratio = median(compared)
	}
}

// ratios returns the ratios between two contenders of a figure, one for each
// round.
func ratios(a, b *row, figure string) (all []float64) {
	for i := range min(len(a.samples), len(b.samples)) {
		if x, y := a.samples[i][figure], b.samples[i][figure]; x > 0 && y > 0 {
			all = append(all, x/y)
		}
	}
	return all
}

// median returns the median, 0 of nothing.
func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	v := slices.Sorted(slices.Values(values))
	return (v[len(v)/2] + v[(len(v)-1)/2]) / 2
}

// sizeName returns a size as people write it.
func sizeName(bytes int) string {
	switch {
	case bytes >= mega:
		return fmt.Sprintf("%d MB", bytes/mega)
	}
	return fmt.Sprintf("%d kB", bytes/kilo)
}

// Sizes, in bytes.
const (
	kilo = 1000
	mega = 1000 * kilo
)
