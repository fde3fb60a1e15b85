package etcdstore

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/kmclient/keystore"
)

// The keys are as the package's comment has them.
func TestLayout(t *testing.T) {
	l := newLayout("/p")
	r := &keystore.Record{Name: keystore.Name{Kind: "receive", KM: "km", SAE: "sae", ID: "id"}, Due: time.Unix(0x1234, 0), Value: []byte("octets")}
	for got, want := range map[string]string{
		l.record(r.Name):                      "/p/r\x00receive\x00km\x00sae\x00id",
		l.due(r):                              "/p/d\x00km\x00sae\x00\x80\x00\x00\x00\x00\x00\x12\x34receive\x00id",
		encodeValue(r):                        "\x01\x80\x00\x00\x00\x00\x00\x12\x34octets",
		limit(l.records):                      "/p/r\x01",
		encodeDue(r.Due):                      "\x80\x00\x00\x00\x00\x00\x12\x34",
		l.due(&keystore.Record{Name: r.Name}): "",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if n, err := l.parseRecord([]byte(l.record(r.Name))); err != nil || n != r.Name {
		t.Errorf("%v, %v", n, err)
	}
	if n, due, ok := l.parseDue([]byte(l.due(r)), r.KM, r.SAE); !ok || n != r.Name || !due.Equal(r.Due) {
		t.Errorf("%v, %v, %v", n, due, ok)
	}
	got, err := decodeValue(r.Name, []byte(encodeValue(r)), 7)
	if err != nil || got.Name != r.Name || !got.Due.Equal(r.Due) || string(got.Value) != "octets" || got.Version != 7 {
		t.Errorf("%+v, %v", got, err)
	}
	for _, value := range []string{"", "\x01", "\x01\x80\x00\x00\x00\x00\x00\x12", "\x02" + encodeValue(r)[1:]} {
		if r, err := decodeValue(r.Name, []byte(value), 7); err == nil {
			t.Errorf("value %q is %v", value, r)
		}
	}
}

// Keys have the order of what they stand for.
func TestOrder(t *testing.T) {
	l := newLayout("/p")
	parts := []string{"", "\x01", "\x01\x01", "!", "a", "a!", "aa", "b", "\x7f", "\xff", "\xff\xff", strings.Repeat("\xff", 255)}
	var names []keystore.Name
	for _, kind := range parts {
		for _, km := range parts {
			names = append(names, keystore.Name{Kind: keystore.Kind(kind), KM: km, SAE: kind, ID: km}, keystore.Name{Kind: "k", KM: km, SAE: kind, ID: "i"})
		}
	}
	slices.SortFunc(names, keystore.Name.Compare)
	names = slices.Compact(names)
	for i, n := range names {
		key := l.record(n)
		if i > 0 && l.record(names[i-1]) >= key {
			t.Errorf("%v and %v are in another order than their keys", names[i-1], n)
		}
		if key < l.records || key >= limit(l.records) {
			t.Errorf("%q is not in the range of records", key)
		}
	}
	seconds := []int64{math.MinInt64, -62135596801, -1, 0, 1, 255, 256, 1 << 32, math.MaxInt64}
	for i, s := range seconds[1:] {
		if a, b := encodeDue(time.Unix(seconds[i], 0)), encodeDue(time.Unix(s, 0)); a >= b {
			t.Errorf("%d and %d: %x and %x", seconds[i], s, a, b)
		}
		if got := decodeDue(encodeDue(time.Unix(s, 0))); got.Unix() != s {
			t.Errorf("%d has become %v", s, got)
		}
	}
	if !decodeDue(encodeDue(time.Time{})).IsZero() {
		t.Error("never has become a time")
	}
}

// No octets that somebody else may put there make the parsers panic, and what
// they take has this key.
func FuzzParseKeys(f *testing.F) {
	l := newLayout("/p")
	f.Add([]byte("/p/r\x00receive\x00km\x00sae\x00id"))
	f.Add([]byte("/p/d\x00km\x00sae\x00\x80\x00\x00\x00\x00\x00\x12\x34receive\x00id"))
	f.Add([]byte("/p/d\x00km\x00sae\x00\x80\x00"))
	f.Add([]byte("/p/r\x00"))
	f.Fuzz(func(t *testing.T, key []byte) {
		if n, err := l.parseRecord(key); err == nil {
			if l.record(n) != string(key) {
				t.Errorf("%q is read as %v", key, n)
			}
			before := string(key) + end
			for depth := deepest; depth >= -1; depth-- {
				stop := l.narrow(before, depth)
				if stop <= before && depth == deepest || stop < before || stop > limit(l.records) {
					t.Errorf("from %q, depth %d: %q", key, depth, stop)
				}
				before = stop
			}
			if before != limit(l.records) {
				t.Errorf("from %q the end is not reached, but %q", key, before)
			}
		}
		n, due, ok := l.parseDue(key, "km", "sae")
		if ok && !due.IsZero() && l.due(&keystore.Record{Name: n, Due: due}) != string(key) {
			t.Errorf("%q is read as %v, %v", key, n, due)
		}
		_, _ = decodeValue(n, key, 1)
	})
}
