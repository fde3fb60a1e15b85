package admin

import "time"

// A point is how many keys a peer had at some time, and how many had been used by
// then.
type point struct {
	at    time.Time
	stock int
	used  int64
}

// A forecast predicts from the last hour how long the keys of a peer will last.
type forecast struct{ points []point }

const (
	forecastOver  = time.Hour
	forecastLeast = 5 * time.Minute // less shows no trend
)

// add adds the newest point.
func (f *forecast) add(p point) {
	old := 0
	for old < len(f.points) && p.at.Sub(f.points[old].at) > forecastOver {
		old++
	}
	f.points = append(f.points[:0], f.points[old:]...)
	f.points = append(f.points, p)
}

// span is the time between the first and the last point.
func (f *forecast) span() time.Duration {
	if len(f.points) == 0 {
		return 0
	}
	return f.points[len(f.points)-1].at.Sub(f.points[0].at)
}

// perHour returns how many keys messages took per hour.
func (f *forecast) perHour() (keys float64, known bool) {
	if f.span() < forecastLeast {
		return 0, false
	}
	first, last := f.points[0], f.points[len(f.points)-1]
	return float64(last.used-first.used) / f.span().Hours(), true
}

// trend returns how many keys the stock gains per hour, or loses if negative. It
// fits a line by least squares, since keys are fetched in batches.
func (f *forecast) trend() (keys float64, known bool) {
	if f.span() < forecastLeast {
		return 0, false
	}
	var n, sx, sy, sxx, sxy float64
	for _, p := range f.points {
		x, y := p.at.Sub(f.points[0].at).Hours(), float64(p.stock)
		n, sx, sy, sxx, sxy = n+1, sx+x, sy+y, sxx+x*x, sxy+x*y
	}
	return (n*sxy - sx*sy) / (n*sxx - sx*sx), true
}

// lasts returns how long the stock lasts if it keeps falling as it does now.
// falls is false if it does not fall; known is false if there is no trend yet.
func (f *forecast) lasts() (d time.Duration, falls, known bool) {
	keys, known := f.trend()
	if !known {
		return 0, false, false
	}
	stock := float64(f.points[len(f.points)-1].stock)
	if stock == 0 {
		return 0, true, true
	}
	const century = 100 * 365 * 24
	hours := stock / -keys
	if keys >= 0 || hours > century {
		return 0, false, true
	}
	return time.Duration(hours * float64(time.Hour)), true, true
}
