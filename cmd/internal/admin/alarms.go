package admin

import (
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/qkdmail/qkdmail/kmclient/keystore"
)

// redirected is the kind of an alarm, and the reason of the refusal that raises it.
const redirected = "redirected"

// An alarm is a kind of event that looks like an attack, and how often it was seen.
type alarm struct {
	Kind  string // as in the log
	Title string // on the page
	what  string // happened, in a sentence
	Times int64
}

// alarmsOf returns all kinds of alarms. Those about keys are the store's.
func (m *Monitor) alarmsOf(s keystore.Stats) []alarm {
	return []alarm{
		{"bound", "Key of another message", "a message came with the key of another message", s.BoundRefused},
		{"closed", "Key that was used and closed", "a message came under a key that had been used and closed", s.ClosedRefused},
		{"reused", "Key ID that came again", "the key manager gave out a key again", s.Reused},
		{"changed", "Key that came again with other bytes", "the key manager gave out a key for decryption again with other bytes", s.Changed},
		{redirected, "Recipient that the message was not sealed for", "a message came for a recipient that it was not sealed for", m.count.redirected.Load()},
	}
}

// storeStats returns the store's statistics, zero if there is no store.
func (m *Monitor) storeStats() keystore.Stats {
	if m.s.Store == nil {
		return keystore.Stats{}
	}
	return m.s.Store.Stats()
}

// alarmCheck warns of what looks like an attack.
func alarmCheck(list []alarm) Check {
	var found []string
	for _, a := range list {
		if a.Times > 0 {
			found = append(found, times(a.Times)+" "+a.what)
		}
	}
	return Check{"attack alarm", StateWarning, "Since the start, " + strings.Join(found, "; ") + ". None was accepted or used.",
		"Look for the alarm in the log. Someone may be copying or replaying messages, or the key manager may have been restored from a backup."}
}

func alarmFigures() []figure {
	return []figure{newFigure(prometheus.CounterValue, "attack_alarms_total",
		"Possible attacks: a key that belongs to another message (bound), a key that was used and closed (closed), "+
			"a key ID that was used here before (reused), a key that the key manager gives out again with other bytes (changed), "+
			"a message for a recipient that it is not sealed for (redirected).", func(r *reading, put put) {
			for _, a := range r.m.alarmsOf(r.store) {
				put(float64(a.Times), a.Kind)
			}
		}, "kind")}
}

// alarms knows when something last looked like an attack.
type alarms struct {
	mu   sync.Mutex
	seen int64
	last time.Time
}

func (a *alarms) note(now time.Time, list []alarm) {
	var n int64
	for _, one := range list {
		n += one.Times
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if n > a.seen {
		a.seen, a.last = n, now
	}
}

func (a *alarms) lastSeen() time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.last
}
