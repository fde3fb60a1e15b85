package admin

import (
	"fmt"
	"time"
)

// A chart shows counts over time: a strip of bars for each outcome, above one time
// axis, so that readers need not tell colours apart.
type chart struct {
	ID, Title, By    string
	Strips           []strip
	From, Middle, To string // labels of the axis
	Rows             []bucket
	Layout           string // of the time in Rows
}

// A strip is a row of bars. Its view box is as wide as the number of bars, and
// stripHeight high.
type strip struct {
	Name  string
	Label string // for those who can't see it
	Total int64
	Most  string
	Width int
	Bars  []bar
}

type bar struct{ X, Y, Height string }

const (
	stripHeight = 40
	leastScale  = 5 // messages that fill a strip, at least
)

func newChart(id, title, by, unit, layout string, series []bucket) chart {
	c := chart{
		ID: id, Title: title, By: by, Layout: layout,
		From: clock(series[0].From), Middle: clock(series[len(series)/2].From), To: "now",
	}
	for _, s := range []struct {
		name string
		of   func(bucket) int64
	}{
		{"Delivered", func(b bucket) int64 { return b.Delivered }},
		{"Deferred", func(b bucket) int64 { return b.Deferred }},
		{"Refused", func(b bucket) int64 { return b.Refused }},
	} {
		c.Strips = append(c.Strips, newStrip(s.name, title, unit, series, s.of))
	}
	for _, b := range series {
		if b.totals != (totals{}) {
			c.Rows = append(c.Rows, b)
		}
	}
	return c
}

func newStrip(name, title, unit string, series []bucket, of func(bucket) int64) strip {
	s := strip{Name: name, Width: len(series)}
	var most int64
	for _, b := range series {
		s.Total += of(b)
		most = max(most, of(b))
	}
	for i, b := range series {
		if n := of(b); n > 0 {
			height := max(float64(n)/float64(max(most, leastScale))*stripHeight, 1)
			s.Bars = append(s.Bars, bar{fmt.Sprintf("%.2f", float64(i)+.1), fmt.Sprintf("%.2f", stripHeight-height), fmt.Sprintf("%.2f", height)})
		}
	}
	if most > 0 {
		s.Most = fmt.Sprintf("at most %s in %s", grouped(most), unit)
	}
	s.Label = fmt.Sprintf("%s, %s: %s in all", title, name, grouped(s.Total))
	if s.Most != "" {
		s.Label += ", " + s.Most
	}
	return s
}

func clock(t time.Time) string { return t.Format("15:04") }
