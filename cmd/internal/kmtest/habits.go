package kmtest

import (
	"maps"
	"net/http"
	"testing"

	"github.com/qkdmail/qkdmail/cmd/internal/kmsim"
)

// A Habit is something that key managers in the field do.
type Habit struct {
	Name    string
	Options kmsim.Options
	// Strangers: the two SAEs have no keys with each other (ETSI only).
	Strangers bool
	// Profile is the name of a profile of the simulator (ETSI only); "": none.
	Profile string
}

// Habits returns all habits. "none" is the first.
func Habits() []Habit {
	type (
		o = kmsim.Options
		q = kmsim.Quirks
	)
	const words = "The requested key amount exceeds the generated key count. Try again later."
	habits := []Habit{
		{Name: "none"},
		{Name: "one key a request", Options: o{MaxKeysPerRequest: 1}},
		{Name: "keys of 256 bits only", Options: o{MinKeySize: 256, MaxKeySize: 256}},
		{Name: "one key of 256 bits a request", Options: o{MinKeySize: 256, MaxKeySize: 256, MaxKeysPerRequest: 1}},
		{Name: "no limits in the status", Options: o{Quirks: q{HideLimits: true}}},
		{Name: "limits that are not kept", Options: o{MaxKeysPerRequest: 2, Quirks: q{IgnoreLimits: true}}},
		{Name: "stored_key_count 0, on demand", Options: o{Quirks: q{ZeroStock: true}}},
		{Name: "fewer keys than asked for", Options: o{Quirks: q{MostKeys: 1}}},
		{Name: "fewer keys, of 256 bits", Options: o{MinKeySize: 256, MaxKeySize: 256, Quirks: q{MostKeys: 2}}},
		{Name: "sizes rounded up to 8 bits", Options: o{Quirks: q{RoundSize: 8}}},
		{Name: "sizes rounded up to 264", Options: o{Quirks: q{RoundSize: 264}}},
		{Name: "size ignored", Options: o{KeySize: 512, Quirks: q{IgnoreSize: true}}},

		// A pad for 464 bytes takes 16 keys of 256 bits, and one for 3,000 bytes
		// takes 95; it takes more if keys are short.
		{Name: "a stock of two", Options: o{Capacity: 2}},
		{Name: "a stock of two, worded so", Options: o{Capacity: 2, ExhaustedStatus: 400, Quirks: q{ExhaustedMessage: words}}},
		{Name: "the same with 503", Options: o{Capacity: 2, Quirks: q{ExhaustedMessage: words}}},
		{Name: "a code instead of words", Options: o{Capacity: 2, ExhaustedStatus: 400, Quirks: q{ExhaustedMessage: "INSUFFICIENT_KEYS"}}},
		{Name: "a stock of two, key by key", Options: o{Capacity: 2, MaxKeysPerRequest: 1, MinKeySize: 256, MaxKeySize: 256}},
		{Name: "a stock of two, 0 in the status", Options: o{Capacity: 2, Quirks: q{ZeroStock: true}}},
		{Name: "a stock of 15", Options: o{Capacity: 15, ExhaustedStatus: 400, Quirks: q{ExhaustedMessage: words}}},
		{Name: "a stock of 20", Options: o{Capacity: 20}},
		{Name: "a stock of 15, as it is", Options: o{Capacity: 15, Quirks: q{GiveRest: true}}},
		{Name: "a stock of 15, as it is, of 256 bits", Options: o{MinKeySize: 256, MaxKeySize: 256, Capacity: 15, Quirks: q{GiveRest: true}}},
		{Name: "an empty stock", Options: o{Capacity: 1, KeySize: 64}},
		{Name: "out of order, with 503", Options: o{Capacity: 1, KeySize: 64, Quirks: q{ExhaustedMessage: "database connection pool exhausted"}}},

		{Name: "keys too short", Options: o{KeySize: 128, MaxKeySize: 128}},
		{Name: "keys said to be too short", Options: o{KeySize: 128, MaxKeySize: 128, Quirks: q{IgnoreLimits: true}}},
		{Name: "a status that fails", Options: o{Quirks: q{StatusStatus: http.StatusInternalServerError}}},
		{Name: "a status that is refused", Options: o{Quirks: q{StatusStatus: http.StatusForbidden}}},
		{Name: "401 for a key that is not here", Options: o{Quirks: q{UnknownKeyStatus: http.StatusUnauthorized}}},
		{Name: "401 in HTML", Strangers: true, Options: o{Quirks: q{HTMLErrors: true}}},
		{Name: "an empty stock, said in HTML", Options: o{Capacity: 1, KeySize: 64, Quirks: q{HTMLErrors: true}}},
	}
	for _, p := range kmsim.Profiles() {
		habits = append(habits, Habit{Name: "profile " + p.Name, Options: p.Options, Profile: p.Name})
	}
	return habits
}

// Each calls try with each habit, each API that it applies to, and its value in
// want. The test fails if want has a name that no habit has.
func Each[V any](t *testing.T, want map[string]V, try func(h Habit, api string, want V)) {
	t.Helper()
	left := maps.Clone(want)
	for _, h := range Habits() {
		delete(left, h.Name)
		for _, api := range []string{ETSI, QMail} {
			if api == ETSI || !h.Strangers && h.Profile == "" {
				try(h, api, want[h.Name])
			}
		}
	}
	for name := range left {
		t.Errorf("no habit has the name %q", name)
	}
}

// Named returns a habit.
func Named(name string) Habit {
	for _, h := range Habits() {
		if h.Name == name {
			return h
		}
	}
	panic("there is no habit " + name)
}
