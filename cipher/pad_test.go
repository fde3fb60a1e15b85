package cipher_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/kmclient"
)

// mailOf returns a message of n bytes.
func mailOf(n int) []byte {
	text := "From: a@example.org\r\n\r\n" + strings.Repeat("0123456789 abcdef\r\n", n/19+1)
	return []byte(text[:n])
}

// TestPadInBatches checks that a frame takes as many keys as it needs, in several
// requests, even if a key manager gives one key of 256 bits at a time.
func TestPadInBatches(t *testing.T) {
	for name, s := range map[string]kmclient.Status{
		"one key of 256 bits per request": {KeySize: 256, MinKeySize: 256, MaxKeySize: 256, MaxKeyPerRequest: 1},
		"one key per request":             {MaxKeySize: 1024, MaxKeyPerRequest: 1},
		"seven keys per request":          {MaxKeySize: 512, MaxKeyPerRequest: 7},
		"more than a frame takes":         {MaxKeySize: 256, MaxKeyPerRequest: 1000},
		"no limit":                        {},
		"a stock of 0, on demand":         {MaxKeySize: 256, MaxKeyPerRequest: 1, StoredKeys: new(0)},
	} {
		for _, suite := range []cipher.Suite{cipher.SuiteOTP, cipher.SuiteAuto} {
			km := newLimitedKM(s)
			plain := mailOf(20_000)
			outer := encrypt(t, km, plain, &cipher.EncryptOptions{Suite: suite})
			info := infoOf(t, outer)
			if info.Suite != cipher.SuiteOTP {
				t.Fatalf("%s, %s: %v, want a pad", name, suite, info)
			}
			if got, err := decrypt(t, km, outer, nil); err != nil || !bytes.Equal(got, plain) {
				t.Errorf("%s, %s: %d bytes came back, %v", name, suite, len(got), err)
			}
			if len(info.KeyIDs) != len(km.given) {
				t.Errorf("%s, %s: %d keys in the message and %d given", name, suite, len(info.KeyIDs), len(km.given))
			}
			if most := s.MaxKeyPerRequest; most > 0 && len(km.requests) < len(km.given)/most {
				t.Errorf("%s, %s: %d requests for %d keys", name, suite, len(km.requests), len(km.given))
			}
		}
	}
}

// TestPadBatchFails makes a later request of a frame fail. The keys of earlier requests
// must be wiped, counted, and in no message.
func TestPadBatchFails(t *testing.T) {
	for _, stock := range []int{0, 1, 10, 255, 300} {
		km := newLimitedKM(kmclient.Status{MaxKeySize: 256, MaxKeyPerRequest: 1})
		km.stock = stock
		var out bytes.Buffer
		info, err := encryptTo(t, &out, km, mailOf(20_000), &cipher.EncryptOptions{Suite: cipher.SuiteOTP})
		if !errors.Is(err, kmclient.ErrKeyExhausted) {
			t.Errorf("stock %d: %v, want ErrKeyExhausted", stock, err)
		}
		used, wasted := stock/255*255, stock%255
		if len(info.KeyIDs) != used+wasted || info.WastedKeys != wasted {
			t.Errorf("stock %d: %d keys fetched and %d wasted, want %d and %d", stock, len(info.KeyIDs), info.WastedKeys, used+wasted, wasted)
		}
		for _, k := range km.given {
			if k.Reveal() != nil {
				t.Fatalf("stock %d: key %s is not wiped", stock, k.ID())
			}
		}
		if stock < 255 && out.Len() > 0 {
			t.Errorf("stock %d: %d bytes were written before the keys of a frame arrived", stock, out.Len())
		}
	}
}

// TestPadBatchRepeats checks that a key that is given out twice is not used as pad
// twice.
func TestPadBatchRepeats(t *testing.T) {
	for name, newID := range map[string]func() string{
		"the same ID":                       func() string { return "9b42e9e2-38cc-4d7f-ba7e-94e0ed1a8a1c" },
		"the same ID, spelled in two ways":  alternate("9b42e9e2-38cc-4d7f-ba7e-94e0ed1a8a1c", "9B42E9E2-38CC-4D7F-BA7E-94E0ED1A8A1C"),
		"the same ID two requests later":    alternate("a", "b", "a"),
		"the same ID in another frame":      repeatAfter(256),
		"the same ID at the end of a frame": repeatAfter(254),
	} {
		km := newLimitedKM(kmclient.Status{MaxKeySize: 256, MaxKeyPerRequest: 1})
		km.newID = newID
		if _, err := encryptTo(t, io.Discard, km, mailOf(20_000), &cipher.EncryptOptions{Suite: cipher.SuiteOTP}); err == nil {
			t.Errorf("%s: the message was encrypted", name)
		}
	}
}

// alternate returns the IDs in turn.
func alternate(ids ...string) func() string {
	n := -1
	return func() string { n++; return ids[n%len(ids)] }
}

// repeatAfter returns the first ID again after n others.
func repeatAfter(n int) func() string {
	i := -1
	return func() string { i++; return fmt.Sprintf("key-%d", i%(n+1)) }
}

// TestPadRuledOut checks that if limits rule out a pad, SuiteAuto takes AES-256-GCM and
// SuiteOTP fails, and that the stock never has this effect.
func TestPadRuledOut(t *testing.T) {
	for name, test := range map[string]struct {
		s     kmclient.Status
		stock int
		suite cipher.Suite // that auto takes; "": it fails
	}{
		"keys too short":             {kmclient.Status{MaxKeySize: 248}, -1, ""}, // for AES too
		"longest under the shortest": {kmclient.Status{MinKeySize: 512, MaxKeySize: 256}, -1, cipher.SuiteAES256GCM},
		"no multiple of 8":           {kmclient.Status{MinKeySize: 257, MaxKeySize: 263}, -1, cipher.SuiteAES256GCM},
		"a size given in bytes":      {kmclient.Status{MinKeySize: 8, MaxKeySize: 32}, -1, cipher.SuiteAES256GCM},
		"keys of 256 bits":           {kmclient.Status{MinKeySize: 256, MaxKeySize: 256}, -1, cipher.SuiteOTP},
		"one key per request":        {kmclient.Status{MaxKeySize: 256, MaxKeyPerRequest: 1}, -1, cipher.SuiteOTP},
		"says that it has none":      {kmclient.Status{MaxKeySize: 256, StoredKeys: new(0), MaxKeys: 0}, -1, cipher.SuiteOTP},
		"has none":                   {kmclient.Status{MaxKeySize: 256}, 0, ""},
		"has one":                    {kmclient.Status{MaxKeySize: 256, StoredKeys: new(1)}, 1, ""},
	} {
		km := &lenientKM{newLimitedKM(test.s), name != "keys too short"}
		km.stock = test.stock
		info, err := encryptTo(t, io.Discard, km, mailOf(100), &cipher.EncryptOptions{Suite: cipher.SuiteAuto})
		if (err == nil) != (test.suite != "") || err == nil && info.Suite != test.suite {
			t.Errorf("%s: auto takes %s, %v, want %q", name, info.Suite, err, test.suite)
		}
		if noPad := info.NoPad != nil; err == nil && noPad != (test.suite == cipher.SuiteAES256GCM) || noPad && !errors.Is(info.NoPad, cipher.ErrPad) {
			t.Errorf("%s: NoPad is %v", name, info.NoPad)
		}

		km = &lenientKM{newLimitedKM(test.s), true}
		_, err = encryptTo(t, io.Discard, km, mailOf(100), &cipher.EncryptOptions{Suite: cipher.SuiteOTP})
		if ruledOut := info.NoPad != nil; ruledOut != errors.Is(err, cipher.ErrPad) || ruledOut && len(km.requests) > 0 {
			t.Errorf("%s: otp: %v after %d requests, want ErrPad: %t, and then no request", name, err, len(km.requests), ruledOut)
		}
		if errors.Is(err, cipher.ErrPad) && (!strings.Contains(err.Error(), "bits") || !strings.Contains(err.Error(), "use AES-256-GCM")) {
			t.Errorf("%s: %v does not say which limit it is and what to do", name, err)
		}
	}
	// A message over the pad limit has no NoPad.
	info, err := encryptTo(t, io.Discard, newLimitedKM(kmclient.Status{}), mailOf(100), &cipher.EncryptOptions{Suite: cipher.SuiteAuto, PadLimit: 50})
	if err != nil || info.Suite != cipher.SuiteAES256GCM || info.NoPad != nil {
		t.Errorf("over the pad limit: %s, NoPad %v, %v", info.Suite, info.NoPad, err)
	}
}

// A lenientKM gives keys outside the limits in its status, if lenient is set.
type lenientKM struct {
	*testKM
	lenient bool
}

func (km *lenientKM) GetKeys(ctx context.Context, peer string, size, number int) ([]*kmclient.Key, error) {
	if !km.lenient {
		return km.testKM.GetKeys(ctx, peer, size, number)
	}
	limits := km.status
	km.status = kmclient.Status{}
	defer func() { km.status = limits }()
	return km.testKM.GetKeys(ctx, peer, size, number)
}

// TestPadCostOf compares costs with what messages take: exact for keys, and a lower
// bound for the size, whatever the limits, the IDs and the message.
func TestPadCostOf(t *testing.T) {
	random := mathrand.New(mathrand.NewPCG(1, 2))
	note := strings.Repeat("é\n=", 8<<10/4)
	upper := func() string { return strings.ToUpper(uuid.NewString()) }
	n := 0
	longID := func() string { n++; return fmt.Sprintf("%0255d", n) }
	shortID := func() string { n++; return fmt.Sprintf("%x", n) }
	sizes := []int{0, 1, 17, 4063, 4064, 4065, 65535, 65536, 65537, 200_000}
	for range 12 {
		sizes = append(sizes, random.IntN(150_000))
	}
	for i, size := range sizes {
		for name, test := range map[string]struct {
			newID func() string
			bytes int
		}{"UUIDs": {uuid.NewString, 16}, "UUIDs in upper case": {upper, 36}, "long IDs": {longID, 255}, "unknown": {longID, 0}, "short IDs": {shortID, 8}} {
			s := []kmclient.Status{
				{}, {MinKeySize: 256, MaxKeySize: 256, MaxKeyPerRequest: 1}, {MaxKeySize: 1000}, {MinKeySize: 4096, MaxKeySize: 8192},
			}[i%4]
			s.KeyIDBytes = test.bytes
			km := newLimitedKM(s)
			km.newID = test.newID
			plain := awkwardMessage(random, size)
			cost, err := cipher.PadCostOf(s, int64(size), i)
			if err != nil {
				t.Fatal(err)
			}
			outer := encrypt(t, km, plain, &cipher.EncryptOptions{
				Suite: cipher.SuiteOTP, SAE: strings.Repeat("A", 255), Peer: strings.Repeat("B", 255), CRLF: true,
				Headers: cipher.HeadersNoConfidentiality, Note: &note, Recipients: slices.Repeat([]string{"a@x.org"}, i),
			})
			var keyBytes int64
			longest := 0
			for _, key := range km.keys {
				keyBytes += int64(len(key))
				longest = max(longest, 8*len(key))
			}
			if cost.Keys != int64(len(km.given)) || cost.KeyBytes != keyBytes || cost.KeySize != longest {
				t.Errorf("%d bytes, %+v: cost %+v, but the message took %d keys of up to %d bits, %d bytes", size, s, cost, len(km.given), longest, keyBytes)
			}
			exact := test.bytes != 0 && name != "short IDs" // all IDs have this many bytes
			if more := int64(len(outer)) - cost.MessageBytes; more < 0 && name != "short IDs" || exact && more > 110<<10 {
				t.Errorf("%d bytes, %s: at least %d were announced, but the message has %d", size, name, cost.MessageBytes, len(outer))
			}
		}
	}
	for name, test := range map[string]struct {
		s    kmclient.Status
		size int64
		want error
	}{
		"keys too short":    {kmclient.Status{MaxKeySize: 128}, 100, cipher.ErrPad},
		"4 MiB of 256 bits": {kmclient.Status{MaxKeySize: 256}, 4 << 20, cipher.ErrTooManyKeys},
		"endless":           {kmclient.Status{}, 1<<63 - 1, cipher.ErrTooManyKeys},
		"negative":          {kmclient.Status{}, -1, cipher.ErrOptions},
	} {
		if cost, err := cipher.PadCostOf(test.s, test.size, 0); !errors.Is(err, test.want) || cost != (cipher.PadCost{}) {
			t.Errorf("%s: %+v, %v, want %v", name, cost, err, test.want)
		}
	}
	if _, err := cipher.PadCostOf(kmclient.Status{MaxKeySize: 256}, 4_100_000, 0); err != nil {
		t.Errorf("4.1 MB of keys of 256 bits: %v", err)
	}
}

// awkwardMessage returns a message of size bytes whose header grows as much as possible
// in the outer header.
func awkwardMessage(random *mathrand.Rand, size int) []byte {
	lines := []string{
		"Subject: \xe9\xe8\xe0\xfc\xf6\xe4" + strings.Repeat("\xe9", 600) + "\n",
		"Keywords: =?windows-874?B?" + strings.Repeat("4ODg", 40) + "?=\n", "Resent-Date:1 Jan 20 0:0 Z\n", "Resent-To:a:;\n",
		"List-X: " + strings.Repeat("é ", 200) + "\n", "Comments: " + strings.Repeat("\xff", 100) + "\n",
		"To: a@b,c@d,e@f, \"\\\"\\\"\" <x@y.example>\n",
	}
	var b bytes.Buffer
	b.WriteString("From: \xe9 <a@example.org>\n")
	for b.Len() < min(size, 70_000) {
		b.WriteString(lines[random.IntN(len(lines))])
	}
	b.WriteString("\n")
	for b.Len() < size {
		b.WriteString("body\n")
	}
	return b.Bytes()[:size]
}
