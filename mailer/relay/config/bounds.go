package config

import (
	"slices"
	"strings"
	"time"

	"github.com/qkdmail/qkdmail/mailer/internal/readable"
)

// bounds checks limits and time-outs.
func (f *findings) bounds() {
	l, t := &f.c.Limits, &f.c.Timeouts
	const most = 100_000
	f.size("limits.message_size", l.MessageSize, 64<<10, 1<<40)
	f.size("limits.line_length", l.LineLength, 998, 1<<30)
	f.size("limits.header_size", l.HeaderSize, 4<<10, 16<<20)
	if l.Memory != 0 {
		f.size("limits.memory", l.Memory, 8<<20, 1<<40)
	}
	f.number("limits.received", int64(l.Received), 1, 1000)
	f.number("limits.recipients", int64(l.Recipients), 1, most)
	f.number("limits.connections", int64(l.Connections), 1, most)
	f.number("limits.connections_per_client", int64(l.ConnectionsPerClient), 1, most)

	f.duration("timeouts.idle", t.Idle, time.Second, time.Hour)
	f.duration("timeouts.data_idle", t.DataIdle, time.Second, time.Hour)
	f.number("timeouts.min_rate", t.MinRate, 0, 1<<30)
	f.duration("timeouts.connect", t.Connect, 100*time.Millisecond, 10*time.Minute)
	f.duration("timeouts.command", t.Command, time.Second, time.Hour)
	f.duration("timeouts.after_dot", t.AfterDot, time.Second, time.Hour)
	f.duration("timeouts.next_hop_idle", t.NextHopIdle, time.Second, time.Hour)
	f.duration("timeouts.shutdown", t.Shutdown, time.Second, time.Hour)
}

func (f *findings) number(key string, n, least, most int64) {
	if n < least || n > most {
		f.add(key, "%d must be %d to %d", n, least, most)
	}
}

func (f *findings) size(key string, n, least, most int64) {
	if n < least || n > most {
		f.add(key, "%s must be %s to %s", readable.Size(n), readable.Size(least), readable.Size(most))
	}
}

func (f *findings) duration(key string, d, least, most time.Duration) {
	if d < least || d > most {
		f.add(key, "%s must be %s to %s", d, least, most)
	}
}

// oneOf reports whether value is among those allowed.
func (f *findings) oneOf(key, value string, allowed ...string) bool {
	if slices.Contains(allowed, value) {
		return true
	}
	last := len(allowed) - 1
	f.add(key, "%q must be %s or %s", readable.Short(value), strings.Join(allowed[:last], ", "), allowed[last])
	return false
}
