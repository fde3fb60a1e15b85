package keystore

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/qkdmail/qkdmail/kmclient"
)

// A Policy decides when the keys of a delivered message are closed. The zero
// Policy is after:7d, which is longer than mail waits in an MTA's queue: an MTA
// may hand over one message in several transactions, days apart.
type Policy struct {
	set   bool
	never bool
	after time.Duration
}

const defaultAfter = 7 * 24 * time.Hour

// longest is a hundred years: three times that still fits a time.Duration.
const longest = 36500 * 24 * time.Hour

// After closes keys d after the first delivery. d is limited to between 0, which is
// after-delivery, and a hundred years.
func After(d time.Duration) Policy { return Policy{set: true, after: min(max(d, 0), longest)} }

// Never closes no key.
func Never() Policy { return Policy{set: true, never: true} }

// ParsePolicy parses after-delivery, after:DURATION and never. DURATION is as for
// [ParseDuration].
func ParsePolicy(text string) (Policy, error) {
	switch text {
	case "after-delivery":
		return After(0), nil
	case "never":
		return Never(), nil
	}
	if rest, ok := strings.CutPrefix(text, "after:"); ok {
		if d, err := ParseDuration(rest); err == nil && d >= 0 {
			return After(d), nil
		}
	}
	return Policy{}, fmt.Errorf("%w: close policy %.40q: want after-delivery, after:DURATION or never", kmclient.ErrConfig, text)
}

// ParseDuration parses Go's durations (36h) and a number of days (7d) of 24 hours each,
// up to a hundred years, which is 36500 days.
func ParseDuration(text string) (d time.Duration, err error) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 16)
		if err != nil {
			return 0, fmt.Errorf("%.40q is not a number of days", text)
		}
		d = time.Duration(n) * 24 * time.Hour
	} else if d, err = time.ParseDuration(text); err != nil {
		return 0, err
	}
	if d.Abs() > longest {
		return 0, fmt.Errorf("%.40q is more than a hundred years", text)
	}
	return d, nil
}

// String returns the policy in the form of ParsePolicy.
func (p Policy) String() string {
	switch after, never := p.delay(); {
	case never:
		return "never"
	case after == 0:
		return "after-delivery"
	default:
		return "after:" + after.String()
	}
}

// MarshalText is String, so that a Policy can be in a configuration file.
func (p Policy) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText is ParsePolicy.
func (p *Policy) UnmarshalText(text []byte) (err error) {
	*p, err = ParsePolicy(string(text))
	return err
}

func (p Policy) delay() (after time.Duration, never bool) {
	if !p.set {
		return defaultAfter, false
	}
	return p.after, p.never
}

// When the sweep looks again at keys that it can't close yet.
const (
	firstLook = time.Minute
	lastLook  = 7 * 24 * time.Hour
	neverLook = 30 * 24 * time.Hour // under the policy never, in case it is changed
)

// dueUsed returns when the sweep looks at a key that is used now.
func (p Policy) dueUsed(now time.Time) time.Time {
	after, never := p.delay()
	if never {
		return now.Add(neverLook)
	}
	return now.Add(after + firstLook)
}

// dueAgain returns when the sweep looks again at a used key whose message is not
// delivered yet: the older the key, the later.
func dueAgain(now, used time.Time) time.Time {
	return now.Add(min(max(now.Sub(used)/4, firstLook), lastLook))
}

// dueMessage returns when the record of a message goes: after the tombstones of its
// keys, which may be looked at lastLook late.
func (p Policy) dueMessage(last time.Time, tombstones time.Duration) time.Time {
	after, never := p.delay()
	if never {
		return last.Add(2 * neverLook) // not before the sweep has looked at its keys
	}
	return last.Add(after + after/4 + tombstones + lastLook + 24*time.Hour)
}
