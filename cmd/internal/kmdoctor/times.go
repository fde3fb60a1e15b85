package kmdoctor

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// A Time says how long a KME takes to answer a kind of request, made one after the
// other and not counting the time to connect.
type Time struct {
	Request string  `json:"request"`         // such as "POST enc_keys"
	Answers int     `json:"answers"`         // good ones
	Median  float64 `json:"median_ms"`       // milliseconds
	Longest float64 `json:"longest_ms"`      // milliseconds
	Rate    float64 `json:"keys_per_second"` // of enc_keys; 0 for others
}

// String returns the time in one line.
func (t Time) String() string {
	s := fmt.Sprintf("%s: %.1f ms, at most %.1f ms", t.Request, t.Median, t.Longest)
	if t.Rate > 0 {
		s += fmt.Sprintf(", %.0f keys a second", t.Rate)
	}
	return s
}

// times are the times of answers, by request.
type times struct {
	took map[string][]time.Duration
	keys map[string]int
}

func (t *times) note(q request, took time.Duration) {
	if t.took == nil {
		t.took, t.keys = map[string][]time.Duration{}, map[string]int{}
	}
	name := q.method + " " + q.what
	t.took[name] = append(t.took[name], took)
	t.keys[name] += q.keys
}

func (t *times) report() []Time {
	report := []Time{}
	for _, name := range slices.Sorted(maps.Keys(t.took)) {
		took := t.took[name]
		slices.Sort(took)
		sum := time.Duration(0)
		for _, d := range took {
			sum += d
		}
		ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
		report = append(report, Time{
			Request: name, Answers: len(took), Median: ms(took[len(took)/2]), Longest: ms(took[len(took)-1]),
			Rate: float64(t.keys[name]) / max(sum.Seconds(), 1e-9),
		})
	}
	return report
}
