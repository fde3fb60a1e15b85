package otp

import (
	"errors"
	"maps"
	"testing"

	"github.com/qkdmail/qkdmail/cipher/internal/suitetest"
	"github.com/qkdmail/qkdmail/kmclient"
)

// TestPlan checks for every length that the plan covers it within the limits and
// discards at most one byte per key.
func TestPlan(t *testing.T) {
	for _, l := range []Limits{{}, {MaxKeySize: 1024}, {MaxKeySize: 4096}, {MaxKeySize: 256}, {MaxKeySize: 4100}} {
		c, err := l.capacity()
		if err != nil {
			t.Fatal(err)
		}
		most, keys := l.largest()
		for n := range c + 1 {
			p := l.plan(n)
			got := pad(p.number, p.size/8)
			if got < n || p.number > keys || p.size > 8*most || p.size%8 != 0 {
				t.Fatalf("%+v: plan for %d bytes: %d keys of %d bits: %d bytes of pad", l, n, p.number, p.size, got)
			}
			if got-n >= p.number && p.size > 8*authSize {
				t.Fatalf("%+v: plan for %d bytes discards %d with %d keys", l, n, got-n, p.number)
			}
		}
	}
}

// TestCost checks the overhead of the format with keys of 4096 bits: 16 bytes of 512,
// and 16 more per frame.
func TestCost(t *testing.T) {
	for _, size := range []int{10_000, 100_000, 1_000_000} {
		s := newKeyStore()
		seal(t, s, Limits{MaxKeySize: 4096}, suitetest.Random(size), size)
		total := 0
		for k := range maps.Values(s.keys) {
			total += len(k)
		}
		if cost := float64(total) / float64(size); cost > 1.05 {
			t.Errorf("%d bytes took %.3f times as many bytes of key, want at most 1.05", size, cost)
		}
	}
}

// TestCostIsExact compares Cost with what a message takes.
func TestCostIsExact(t *testing.T) {
	for _, l := range []Limits{{}, {MaxKeySize: 256}, {MaxKeySize: 1000}, {MaxKeySize: 4096}, {MinKeySize: 3000}, {MinKeySize: 512, MaxKeySize: 512}} {
		c, err := l.capacity()
		if err != nil {
			t.Fatal(err)
		}
		for _, size := range []int{0, 1, 16, 17, 100, c - 1, c, c + 1, 2 * c, 2*c + 1, 3*c + 5} {
			s := newKeyStore()
			payload, _ := seal(t, s, l, suitetest.Random(size), max(size, 1))
			want := Cost{Frames: int64(len(split(t, payload))), Keys: int64(len(s.keys))}
			for k := range maps.Values(s.keys) {
				want.KeyBytes += int64(len(k))
				want.KeySize = max(want.KeySize, 8*len(k))
			}
			if got, err := l.Cost(int64(size)); err != nil || got != want {
				t.Errorf("%+v, %d bytes: %+v, %v\nwant %+v", l, size, got, err, want)
			}
		}
		for _, size := range []int64{int64(c)*MaxIDs + 1, 1 << 62, 1<<63 - 1} {
			if got, err := l.Cost(size); !errors.Is(err, ErrTooManyKeys) {
				t.Errorf("%+v, %d bytes: %+v, %v, want ErrTooManyKeys", l, size, got, err)
			}
		}
	}
}

func TestLimitsTooSmall(t *testing.T) {
	for _, l := range []Limits{
		{MaxKeySize: 128}, {MaxKeySize: 248}, {MaxKeySize: 255}, {MinKeySize: 128, MaxKeySize: 192}, {MinKeySize: 512, MaxKeySize: 256},
		{MinKeySize: 257, MaxKeySize: 263}, {MinKeySize: kmclient.MaxRequestSize + 1},
	} {
		if _, err := NewWriter(WriterOptions{Limits: l}); !errors.Is(err, ErrLimits) {
			t.Errorf("%+v: error %v, want %v", l, err, ErrLimits)
		}
		if _, err := l.Cost(100); !errors.Is(err, ErrLimits) {
			t.Errorf("%+v: a cost, %v, want %v", l, err, ErrLimits)
		}
	}
	for _, l := range []Limits{{}, {MaxKeySize: 256}, {MinKeySize: 256, MaxKeySize: 256}, {MinKeySize: 257, MaxKeySize: 264}, {MinKeySize: kmclient.MaxRequestSize}} {
		w, err := NewWriter(WriterOptions{Limits: l})
		if err != nil {
			t.Errorf("%+v: %v, want a pad", l, err)
			continue
		}
		w.Abort()
	}
}
