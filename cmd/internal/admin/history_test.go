package admin

import (
	"testing"
	"time"
)

func TestHistory(t *testing.T) {
	h := newHistory()
	now := time.Date(2026, 1, 1, 11, 59, 58, 0, time.UTC)
	h.note(now, totals{Delivered: 5})
	h.note(now.Add(time.Second), totals{Delivered: 7, Refused: 1})
	h.note(now.Add(3*time.Second), totals{Delivered: 10, Refused: 1, Deferred: 4}) // another minute
	hour, day := h.series(now.Add(3 * time.Second))
	if len(hour) != 60 || len(day) != 144 {
		t.Fatalf("%d and %d buckets", len(hour), len(day))
	}
	if got, want := hour[58].totals, (totals{7, 0, 1}); got != want {
		t.Errorf("the minute before: %+v, want %+v", got, want)
	}
	if got, want := hour[59].totals, (totals{3, 4, 0}); got != want {
		t.Errorf("this minute: %+v, want %+v", got, want)
	}
	if day[142].Delivered != 7 || day[143].Delivered != 3 || !day[143].From.Equal(now.Truncate(10*time.Minute).Add(10*time.Minute)) {
		t.Errorf("ten minutes: %+v, %+v", day[142], day[143])
	}
	// A time without mail is empty, and so is anything over an hour old.
	later := now.Add(3*time.Second + 30*time.Minute)
	if hour, _ := h.series(later); hour[29].Delivered != 3 || hour[28].Delivered != 7 || hour[59].totals != (totals{}) {
		t.Errorf("half an hour later: %+v", hour[25:35])
	}
	hour, day = h.series(now.Add(3 * time.Hour))
	for _, b := range hour {
		if b.totals != (totals{}) {
			t.Errorf("three hours later: %+v", b)
		}
	}
	if day[143-17].Delivered != 3 {
		t.Errorf("three hours later, by ten minutes: %+v", day[120:])
	}
	h.note(now.Add(30*time.Hour), totals{Delivered: 11, Refused: 1, Deferred: 4})
	if _, day := h.series(now.Add(30 * time.Hour)); day[143].Delivered != 1 || day[0].totals != (totals{}) {
		t.Errorf("the next day: %+v, %+v", day[143], day[0])
	}
}

func TestForecast(t *testing.T) {
	start := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	// fill adds a point each half minute.
	fill := func(d time.Duration, stock func(hours float64) float64) *forecast {
		f := &forecast{}
		for at := time.Duration(0); at <= d; at += 30 * time.Second {
			f.add(point{start.Add(at), int(stock(at.Hours())), int64(600 * at.Hours())})
		}
		return f
	}
	for name, tt := range map[string]struct {
		f            *forecast
		lasts        time.Duration
		falls, known bool
	}{
		"nothing yet":       {&forecast{}, 0, false, false},
		"two minutes":       {fill(2*time.Minute, func(h float64) float64 { return 1000 - 600*h }), 0, false, false},
		"falls evenly":      {fill(time.Hour, func(h float64) float64 { return 3000 - 600*h }), 4 * time.Hour, true, true},
		"does not change":   {fill(time.Hour, func(float64) float64 { return 3000 }), 0, false, true},
		"grows":             {fill(time.Hour, func(h float64) float64 { return 100 * h }), 0, false, true},
		"is empty":          {fill(time.Hour, func(h float64) float64 { return 0 }), 0, true, true},
		"an old fall":       {fill(3*time.Hour, func(h float64) float64 { return max(3000-1000*h, 1000) }), 0, false, true},
		"falls in batches":  {fill(time.Hour, func(h float64) float64 { return 12800 - 128*float64(int(h*25)) }), 3 * time.Hour, true, true},
		"falls by a little": {fill(time.Hour, func(h float64) float64 { return 1e9 - h }), 0, false, true},
	} {
		lasts, falls, known := tt.f.lasts()
		if known != tt.known || falls != tt.falls || (lasts-tt.lasts).Abs() > 15*time.Minute {
			t.Errorf("%s: %v, falls %v, known %v; want %v, %v, %v", name, lasts, falls, known, tt.lasts, tt.falls, tt.known)
		}
		if span := tt.f.span(); span > forecastOver {
			t.Errorf("%s: %v are kept", name, span)
		}
	}
	if used, known := fill(2*time.Hour, func(float64) float64 { return 1 }).perHour(); !known || used < 595 || used > 605 {
		t.Errorf("%v keys an hour, %v; want 600", used, known)
	}
}

func TestRoughly(t *testing.T) {
	for d, want := range map[time.Duration]string{
		10 * time.Second: "less than a minute", time.Minute: "1 minute", 90 * time.Minute: "90 minutes",
		150 * time.Minute: "3 hours", 47 * time.Hour: "47 hours", 72 * time.Hour: "3 days", 10_000 * time.Hour: "more than a year",
	} {
		if got := roughly(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567", -1000: "−1,000"} {
		if got := grouped(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}
