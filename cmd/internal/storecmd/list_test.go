package storecmd

import (
	"testing"
	"time"
)

func TestParseBefore(t *testing.T) {
	now := time.Date(2026, 3, 4, 5, 6, 7, 0, time.FixedZone("", 3600))
	for text, want := range map[string]time.Time{
		"":                     {},
		"2026-01-31":           time.Date(2026, 1, 31, 0, 0, 0, 0, now.Location()),
		"2026-01-31T10:00:00Z": time.Date(2026, 1, 31, 10, 0, 0, 0, time.UTC),
		"30d":                  now.Add(-30 * 24 * time.Hour),
		"90m":                  now.Add(-90 * time.Minute),
	} {
		if got, err := parseBefore(text, now); err != nil || !got.Equal(want) {
			t.Errorf("%q: %v, %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"31.1.2026", "-1h", "-1d", "1x", "2026-02-30", "tomorrow"} {
		if got, err := parseBefore(text, now); err == nil {
			t.Errorf("%q is %v", text, got)
		}
	}
}
