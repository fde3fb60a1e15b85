package keystore

import (
	"log/slog"
	"sync/atomic"
	"time"
)

// A timekeeper has two clocks: the system's, which may be set at any moment, and the
// start time of the process plus the time it has run. If they differ, the later time is
// recorded for what happens now, and the earlier one decides whether something is due.
// So a step of the system's clock only makes things last longer.
type timekeeper struct {
	wall    func() time.Time
	running func() time.Duration // nil: the clock is never set
	start   time.Time            // by wall
	began   time.Duration        // by running
	logger  *slog.Logger
	stepped *atomic.Bool // whether a step was logged
}

// newTimekeeper returns a timekeeper with two clocks, or with those of the system if wall
// is nil.
func newTimekeeper(wall func() time.Time, running func() time.Duration, logger *slog.Logger) timekeeper {
	t := timekeeper{wall: wall, running: running, logger: logger, stepped: new(atomic.Bool)}
	if wall == nil {
		start := time.Now()
		t.wall = func() time.Time { return time.Now().Round(0) }
		t.running = func() time.Duration { return time.Since(start) }
	}
	t.start = t.wall()
	if t.running != nil {
		t.began = t.running()
	}
	return t
}

// step is a difference too large to come from slewing a clock.
const step = time.Hour

func (t *timekeeper) both() (wall, running time.Time) {
	wall = t.wall()
	if t.running == nil {
		return wall, wall
	}
	running = t.start.Add(t.running() - t.began)
	if wall.Sub(running).Abs() > step && t.stepped.CompareAndSwap(false, true) {
		t.logger.Warn("the clock was set while this process runs; keys and tombstones are kept too long rather than too short: restart once it is right",
			"clock", wall.UTC(), "expected", running.UTC())
	}
	return wall, running
}

// late is the time to record for what happens now.
func (t *timekeeper) late() time.Time {
	wall, running := t.both()
	if wall.Before(running) {
		return running
	}
	return wall
}

// early is the time that decides whether something is due.
func (t *timekeeper) early() time.Time {
	wall, running := t.both()
	if running.Before(wall) {
		return running
	}
	return wall
}
