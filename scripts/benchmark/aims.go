package main

import "fmt"

// An aim is a figure that qkdmail is to reach.
type aim struct {
	what    string
	limit   float64
	atLeast bool   // the figure is to be the limit or more; else the limit or less
	unit    string // "" for a ratio
	figure  float64
	known   bool
}

func (a aim) met() bool {
	if a.atLeast {
		return a.figure >= a.limit
	}
	return a.figure <= a.limit
}

// aims compares what was measured with what qkdmail is to reach.
func (r *results) aims(stream int) []aim {
	var all []aim
	for _, t := range []struct {
		op    string
		size  int
		peer  string
		limit float64
	}{
		{opEncrypt, 10 * kilo, nameAge, 1.2},
		{opDecrypt, 10 * kilo, nameAge, 1.2},
		{opEncrypt, 25 * mega, nameOpenSSL, 0.7},
		{opEncrypt, 25 * mega, nameAge, 0.5},
		{opEncrypt, 200 * mega, nameOpenSSL, 0.6},
		{opEncrypt, 200 * mega, nameAge, 0.4},
		{opDecrypt, 25 * mega, nameAge, 0.3},
		{opDecrypt, 25 * mega, nameOpenSSL, 0.15},
		{opDecrypt, 200 * mega, nameAge, 0.3},
		{opDecrypt, 200 * mega, nameOpenSSL, 0.15},
	} {
		figure, ok := r.ratio(nameAES, t.peer, t.op, t.size)
		all = append(all, aim{what: fmt.Sprintf("%s %s: time, of that of %s", t.op, sizeName(t.size), t.peer), limit: t.limit, figure: figure, known: ok})
	}
	for _, size := range []int{200 * mega, stream} {
		for _, op := range operations {
			peak := r.peak(cell{nameAES, op, size})
			all = append(all, aim{what: fmt.Sprintf("%s %s: peak memory", op, sizeName(size)), limit: 32, unit: " MiB", figure: mebi(peak), known: peak != 0})
		}
	}
	for _, op := range operations {
		short, long := r.peak(cell{nameAES, op, 200 * mega}), r.peak(cell{nameAES, op, stream})
		all = append(all, aim{
			what:  fmt.Sprintf("%s %s: peak memory, of that with %s", op, sizeName(stream), sizeName(200*mega)),
			limit: 1.1, figure: float64(long) / float64(max(short, 1)), known: short != 0 && long != 0,
		})
	}
	for _, t := range []struct {
		name, of string
		limit    float64
	}{
		{"AES-256-GCM/encrypt", "AES-GCM", 0.35}, {"AES-256-GCM/decrypt", "AES-GCM", 0.3},
		{"OTP/encrypt", "Poly1305", 0.4}, {"OTP/decrypt", "Poly1305", 0.4},
	} {
		share, ok := r.share[t.name]
		all = append(all, aim{what: fmt.Sprintf("%s in memory, one core: share of %s's own speed", t.name, t.of), limit: t.limit, atLeast: true, figure: share, known: ok})
	}
	for _, size := range []int{10 * kilo, 100 * kilo, mega} {
		octets, ok := r.padKeys[size]
		all = append(all, aim{what: fmt.Sprintf("OTP, %s, keys of %d bits: octets of key for one of message", sizeName(size), keyLimit), limit: 1.05, figure: octets, known: ok})
	}
	return append(all, r.relayAims()...)
}

func mebi(octets int64) float64 { return float64(octets) / (1 << 20) }
