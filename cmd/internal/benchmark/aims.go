package main

import "strconv"

// An aim is a figure that qkdmail should reach.
type aim struct {
	What  string
	sign  string // ≤ or ≥
	limit float64
	got   float64 // 0: not measured
}

// Bound, Value and Verdict are its columns in the report.
func (a aim) Bound() string { return a.sign + " " + strconv.FormatFloat(a.limit, 'f', -1, 64) }
func (a aim) Value() string { return figure(a.got) }

func (a aim) Verdict() string {
	switch {
	case a.got == 0:
		return "not measured"
	case a.got == a.limit || a.got > a.limit == (a.sign == "≥"):
		return "met"
	}
	return "**missed**"
}

// aims compares what was measured with what qkdmail should reach.
func (r *results) aims() []aim {
	ratio := func(who, way string, size int) float64 { return r.find(who, way, size).Ratio }
	memory := func(op string, size int) float64 { return r.find(nameAES, op, size).Median[figPeak] }
	over := func(a, b float64) float64 { // 0 if one of them is not known
		if b == 0 {
			return 0
		}
		return a / b
	}
	postfix := func(size int) float64 {
		return over(ratio(nameEncrypt, wayKept, size), ratio(namePostfix, wayKept, size))
	}
	requests := 0.0
	for _, way := range ways {
		requests = max(requests, r.find(nameETSI, way, 4*kilo).Median[figRequests], r.find(nameETSI, way, 50*kilo).Median[figRequests])
	}
	return []aim{
		{"encrypt 10 kB: time, relative to age", "≤", 1.8, ratio(nameAge, opEncrypt, 10*kilo)},
		{"decrypt 10 kB: time, relative to age", "≤", 1.8, ratio(nameAge, opDecrypt, 10*kilo)},
		{"encrypt 25 MB: time, relative to openssl cms", "≤", 0.7, ratio(nameOpenSSL, opEncrypt, 25*mega)},
		{"encrypt 25 MB: time, relative to age", "≤", 0.5, ratio(nameAge, opEncrypt, 25*mega)},
		{"encrypt 200 MB: time, relative to openssl cms", "≤", 0.6, ratio(nameOpenSSL, opEncrypt, 200*mega)},
		{"encrypt 200 MB: time, relative to age", "≤", 0.4, ratio(nameAge, opEncrypt, 200*mega)},
		{"decrypt 25 MB: time, relative to openssl cms", "≤", 0.15, ratio(nameOpenSSL, opDecrypt, 25*mega)},
		{"decrypt 25 MB: time, relative to age", "≤", 0.3, ratio(nameAge, opDecrypt, 25*mega)},
		{"decrypt 200 MB: time, relative to openssl cms", "≤", 0.15, ratio(nameOpenSSL, opDecrypt, 200*mega)},
		{"decrypt 200 MB: time, relative to age", "≤", 0.3, ratio(nameAge, opDecrypt, 200*mega)},
		{"encrypt 200 MB: peak memory, MiB", "≤", 32, memory(opEncrypt, 200*mega)},
		{"decrypt 200 MB: peak memory, MiB", "≤", 32, memory(opDecrypt, 200*mega)},
		{"encrypt 200 MB: peak memory, relative to 25 MB", "≤", 1.1, over(memory(opEncrypt, 200*mega), memory(opEncrypt, 25*mega))},
		{"decrypt 200 MB: peak memory, relative to 25 MB", "≤", 1.1, over(memory(opDecrypt, 200*mega), memory(opDecrypt, 25*mega))},
		{"encrypt with AES-256-GCM in memory: speed, relative to AES-GCM alone", "≥", 0.35, r.Shares["AES-256-GCM/encrypt"]},
		{"decrypt with AES-256-GCM in memory: speed, relative to AES-GCM alone", "≥", 0.3, r.Shares["AES-256-GCM/decrypt"]},
		{"encrypt with OTP in memory: speed, relative to Poly1305 alone", "≥", 0.4, r.Shares["OTP/encrypt"]},
		{"decrypt with OTP in memory: speed, relative to Poly1305 alone", "≥", 0.4, r.Shares["OTP/decrypt"]},
		{"encrypting relay, kept, 4 kB: rate, relative to the pass-through", "≥", 1.2, ratio(nameEncrypt, wayKept, 4*kilo)},
		{"decrypting relay, kept, 4 kB: rate, relative to the pass-through", "≥", 1.2, ratio(nameDecrypt, wayKept, 4*kilo)},
		{"encrypting relay, kept, 50 kB: rate, relative to the pass-through", "≥", 1.5, ratio(nameEncrypt, wayKept, 50*kilo)},
		{"decrypting relay, kept, 50 kB: rate, relative to the pass-through", "≥", 1.5, ratio(nameDecrypt, wayKept, 50*kilo)},
		{"encrypting relay, new, 4 kB: rate, relative to the pass-through", "≥", 1, ratio(nameEncrypt, wayNew, 4*kilo)},
		{"decrypting relay, new, 4 kB: rate, relative to the pass-through", "≥", 1, ratio(nameDecrypt, wayNew, 4*kilo)},
		{"encrypting relay, new, 50 kB: rate, relative to the pass-through", "≥", 1, ratio(nameEncrypt, wayNew, 50*kilo)},
		{"decrypting relay, new, 50 kB: rate, relative to the pass-through", "≥", 1, ratio(nameDecrypt, wayNew, 50*kilo)},
		{"relay with SQLite, pipelined, 4 kB: rate, relative to the pass-through", "≥", 0.5, ratio(nameStore, wayPipelined, 4*kilo)},
		{"relay with SQLite, pipelined, 50 kB: rate, relative to the pass-through", "≥", 1, ratio(nameStore, wayPipelined, 50*kilo)},
		{"encrypting relay, kept, 4 kB: rate, relative to Postfix", "≥", 4, postfix(4 * kilo)},
		{"encrypting relay, kept, 50 kB: rate, relative to Postfix", "≥", 4, postfix(50 * kilo)},
		{"encrypting relay: requests to the key manager for each message", "≤", 0.02, requests},
	}
}
