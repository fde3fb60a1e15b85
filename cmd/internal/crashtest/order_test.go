package crashtest

import "sync/atomic"

// An order numbers events, to tell which came first.
type order struct{ last atomic.Int64 }

func (o *order) now() int64 { return o.last.Add(1) }

// A span is the time from one moment of an order to another.
type span struct{ from, to int64 }

func (s span) overlaps(o span) bool { return s.from <= o.to && o.from <= s.to }
