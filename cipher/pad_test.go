package cipher_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/kmclient"
)

// A fieldKM is a key manager as they are in the field: with limits that it
// keeps to, a stock that ends, and IDs of its own. It remembers all keys that it
// has handed out.
type fieldKM struct {
	status   kmclient.Status
	stock    int // keys; less than 0: no end
	newID    func() string
	requests []int // how many keys each was for
	given    []*kmclient.Key
	octets   map[string][]byte
}

func newFieldKM(s kmclient.Status) *fieldKM {
	return &fieldKM{status: s, stock: -1, newID: uuid.NewString, octets: map[string][]byte{}}
}

func (km *fieldKM) Status(context.Context, string) (kmclient.Status, error) { return km.status, nil }

func (km *fieldKM) GetKeys(_ context.Context, _ string, size, number int) ([]*kmclient.Key, error) {
	km.requests = append(km.requests, number)
	s := km.status
	switch {
	case s.MaxKeySize > 0 && size > s.MaxKeySize, size < s.MinKeySize, s.MaxKeyPerRequest > 0 && number > s.MaxKeyPerRequest:
		return nil, fmt.Errorf("%w: %d keys of %d bits", kmclient.ErrLimit, number, size)
	case km.stock >= 0 && number > km.stock:
		return nil, kmclient.ErrKeyExhausted
	case km.stock >= 0:
		km.stock -= number
	}
	keys := make([]*kmclient.Key, number)
	for i := range keys {
		octets := make([]byte, size/8)
		_, _ = rand.Read(octets)
		keys[i] = kmclient.NewKey(km.newID(), octets)
		km.octets[keys[i].ID()] = bytes.Clone(octets)
	}
	km.given = append(km.given, keys...)
	return keys, nil
}

func (km *fieldKM) KeysByID(_ context.Context, _ string, ids ...string) (keys []*kmclient.Key, err error) {
	for _, id := range ids {
		octets, ok := km.octets[id]
		if !ok {
			return nil, fmt.Errorf("%w: %s", kmclient.ErrKeyNotFound, id)
		}
		keys = append(keys, kmclient.NewKey(id, bytes.Clone(octets)))
	}
	return keys, nil
}

// mailOf returns a message of n bytes.
func mailOf(n int) []byte {
	text := "From: a@example.org\r\n\r\n" + strings.Repeat("0123456789 abcdef\r\n", n/19+1)
	return []byte(text[:n])
}

// The limit of a request is the size of a batch only: frames take as many keys
// as they need, also where a key manager gives one key of 256 bits a request.
func TestPadInBatches(t *testing.T) {
	for name, s := range map[string]kmclient.Status{
		"one key of 256 bits a request": {KeySize: 256, MinKeySize: 256, MaxKeySize: 256, MaxKeyPerRequest: 1},
		"one key a request":             {MaxKeySize: 1024, MaxKeyPerRequest: 1},
		"seven keys a request":          {MaxKeySize: 512, MaxKeyPerRequest: 7},
		"more than a frame takes":       {MaxKeySize: 256, MaxKeyPerRequest: 1000},
		"no limit":                      {},
		"a stock of 0, on demand":       {MaxKeySize: 256, MaxKeyPerRequest: 1, StoredKeys: new(0)},
	} {
		for _, suite := range []cipher.Suite{cipher.SuiteOTP, cipher.SuiteAuto} {
			km := newFieldKM(s)
			plain := mailOf(20_000)
			wire := encrypt(t, km, plain, &cipher.EncryptOptions{Suite: suite})
			info, err := cipher.Inspect(bytes.NewReader(wire))
			if err != nil || info.Suite != cipher.SuiteOTP {
				t.Fatalf("%s, %s: %v, %v, want a pad", name, suite, info, err)
			}
			if got, err := decrypt(t, km, wire, nil); err != nil || !bytes.Equal(got, plain) {
				t.Errorf("%s, %s: %d bytes came back, %v", name, suite, len(got), err)
			}
			if len(info.KeyIDs) != len(km.given) {
				t.Errorf("%s, %s: %d keys in the message and %d handed out", name, suite, len(info.KeyIDs), len(km.given))
			}
			if most := s.MaxKeyPerRequest; most > 0 && len(km.requests) < len(km.given)/most {
				t.Errorf("%s, %s: %d requests for %d keys", name, suite, len(km.requests), len(km.given))
			}
		}
	}
}

// Where a later request of a frame fails, what came before is wiped, counted
// and in no message.
func TestPadBatchFails(t *testing.T) {
	for _, stock := range []int{0, 1, 10, 255, 300} {
		km := newFieldKM(kmclient.Status{MaxKeySize: 256, MaxKeyPerRequest: 1})
		km.stock = stock
		var wire bytes.Buffer
		w, err := cipher.Encrypt(t.Context(), &wire, km, &cipher.EncryptOptions{Suite: cipher.SuiteOTP})
		if err != nil {
			t.Fatal(err)
		}
		_, err = w.Write(mailOf(20_000))
		if err == nil {
			err = w.Close()
		}
		if !errors.Is(err, kmclient.ErrKeyExhausted) {
			t.Errorf("stock %d: %v, want ErrKeyExhausted", stock, err)
		}
		w.Abort()
		used, wasted := stock/255*255, stock%255
		if info := w.Info(); len(info.KeyIDs) != used+wasted || info.WastedKeys != wasted {
			t.Errorf("stock %d: %d keys fetched and %d wasted, want %d and %d", stock, len(info.KeyIDs), info.WastedKeys, used+wasted, wasted)
		}
		for _, k := range km.given {
			if k.Reveal() != nil {
				t.Fatalf("stock %d: key %s is not wiped", stock, k.ID())
			}
		}
		if stock < 255 && wire.Len() > 0 {
			t.Errorf("stock %d: %d bytes were written before a key was sure", stock, wire.Len())
		}
	}
}

// A key that comes in two batches must not be pad twice.
func TestPadBatchRepeats(t *testing.T) {
	for name, newID := range map[string]func() string{
		"the same ID":                       func() string { return "9b42e9e2-38cc-4d7f-ba7e-94e0ed1a8a1c" },
		"the same ID, spelled in two ways":  alternate("9b42e9e2-38cc-4d7f-ba7e-94e0ed1a8a1c", "9B42E9E2-38CC-4D7F-BA7E-94E0ED1A8A1C"),
		"the same ID two requests later":    alternate("a", "b", "a"),
		"the same ID in another frame":      repeatAfter(256),
		"the same ID at the end of a frame": repeatAfter(254),
	} {
		km := newFieldKM(kmclient.Status{MaxKeySize: 256, MaxKeyPerRequest: 1})
		km.newID = newID
		w, err := cipher.Encrypt(t.Context(), &bytes.Buffer{}, km, &cipher.EncryptOptions{Suite: cipher.SuiteOTP})
		if err != nil {
			t.Fatal(err)
		}
		_, err = w.Write(mailOf(20_000))
		if err == nil {
			err = w.Close()
		}
		if err == nil {
			t.Errorf("%s: the message was encrypted", name)
		}
		w.Abort()
	}
}

func alternate(ids ...string) func() string {
	n := -1
	return func() string { n++; return ids[n%len(ids)] }
}

// repeatAfter gives the first ID again once n others have come.
func repeatAfter(n int) func() string {
	i := -1
	return func() string { i++; return fmt.Sprintf("key-%d", i%(n+1)) }
}

// Limits that rule a pad out have auto take AES-256-GCM, and otp fail. A stock
// never does.
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
		"one key a request":          {kmclient.Status{MaxKeySize: 256, MaxKeyPerRequest: 1}, -1, cipher.SuiteOTP},
		"says that it has none":      {kmclient.Status{MaxKeySize: 256, StoredKeys: new(0), MaxKeys: 0}, -1, cipher.SuiteOTP},
		"has none":                   {kmclient.Status{MaxKeySize: 256}, 0, ""},
		"has one":                    {kmclient.Status{MaxKeySize: 256, StoredKeys: new(1)}, 1, ""},
	} {
		km := &lenientKM{newFieldKM(test.s), name != "keys too short"}
		km.stock = test.stock
		w, err := cipher.Encrypt(t.Context(), &bytes.Buffer{}, km, &cipher.EncryptOptions{Suite: cipher.SuiteAuto})
		if err != nil {
			t.Fatal(err)
		}
		_, err = w.Write(mailOf(100))
		if err == nil {
			err = w.Close()
		}
		w.Abort()
		info := w.Info()
		if (err == nil) != (test.suite != "") || err == nil && info.Suite != test.suite {
			t.Errorf("%s: auto takes %s, %v, want %q", name, info.Suite, err, test.suite)
		}
		if noPad := info.NoPad != nil; err == nil && noPad != (test.suite == cipher.SuiteAES256GCM) || noPad && !errors.Is(info.NoPad, cipher.ErrPad) {
			t.Errorf("%s: NoPad is %v", name, info.NoPad)
		}

		km = &lenientKM{newFieldKM(test.s), true}
		w, err = cipher.Encrypt(t.Context(), &bytes.Buffer{}, km, &cipher.EncryptOptions{Suite: cipher.SuiteOTP})
		if err != nil {
			t.Fatal(err)
		}
		_, _ = w.Write(mailOf(100))
		err = w.Close()
		if ruledOut := info.NoPad != nil; ruledOut != errors.Is(err, cipher.ErrPad) || ruledOut && len(km.requests) > 0 {
			t.Errorf("%s: otp: %v after %d requests, want ErrPad: %t, and no request then", name, err, len(km.requests), ruledOut)
		}
		if errors.Is(err, cipher.ErrPad) && (!strings.Contains(err.Error(), "bits") || !strings.Contains(err.Error(), "use AES-256-GCM")) {
			t.Errorf("%s: %v does not say which limit it is, and what to do", name, err)
		}
		w.Abort()
	}
	// A message over the pad limit says nothing of the pad.
	w, err := cipher.Encrypt(t.Context(), &bytes.Buffer{}, newFieldKM(kmclient.Status{}), &cipher.EncryptOptions{Suite: cipher.SuiteAuto, PadLimit: 50})
	if err != nil {
		t.Fatal(err)
	}
	_, _ = w.Write(mailOf(100))
	if err := w.Close(); err != nil || w.Info().Suite != cipher.SuiteAES256GCM || w.Info().NoPad != nil {
		t.Errorf("over the pad limit: %s, NoPad %v, %v", w.Info().Suite, w.Info().NoPad, err)
	}
}

// A lenientKM gives what its own limits forbid: what they say is wrong.
type lenientKM struct {
	*fieldKM
	lenient bool
}

func (km *lenientKM) GetKeys(ctx context.Context, peer string, size, number int) ([]*kmclient.Key, error) {
	if !km.lenient {
		return km.fieldKM.GetKeys(ctx, peer, size, number)
	}
	told := km.status
	km.status = kmclient.Status{}
	defer func() { km.status = told }()
	return km.fieldKM.GetKeys(ctx, peer, size, number)
}

// PadCostOf is exact for the keys, and true for the size, whatever the limits,
// the IDs and the message.
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
			km := newFieldKM(s)
			km.newID = test.newID
			plain := awkwardMessage(random, size)
			cost, err := cipher.PadCostOf(s, int64(size))
			if err != nil {
				t.Fatal(err)
			}
			wire := encrypt(t, km, plain, &cipher.EncryptOptions{
				Suite: cipher.SuiteOTP, SAE: strings.Repeat("A", 255), Peer: strings.Repeat("B", 255), CRLF: true,
				Headers: cipher.HeadersNoConfidentiality, Note: &note,
			})
			var keyBytes int64
			longest := 0
			for _, octets := range km.octets {
				keyBytes += int64(len(octets))
				longest = max(longest, 8*len(octets))
			}
			if cost.Keys != int64(len(km.given)) || cost.KeyBytes != keyBytes || cost.KeySize != longest {
				t.Errorf("%d bytes, %+v: the cost is %+v, and it took %d keys of up to %d bits, %d bytes", size, s, cost, len(km.given), longest, keyBytes)
			}
			exact := test.bytes != 0 && name != "short IDs" // all IDs have so many bytes
			if more := int64(len(wire)) - cost.MessageBytes; more < 0 && name != "short IDs" || exact && more > 110<<10 {
				t.Errorf("%d bytes, %s: %d are expected at least, and the message has %d", size, name, cost.MessageBytes, len(wire))
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
		if cost, err := cipher.PadCostOf(test.s, test.size); !errors.Is(err, test.want) || cost != (cipher.PadCost{}) {
			t.Errorf("%s: %+v, %v, want %v", name, cost, err, test.want)
		}
	}
	if _, err := cipher.PadCostOf(kmclient.Status{MaxKeySize: 256}, 4_100_000); err != nil {
		t.Errorf("4.1 MB of keys of 256 bits: %v", err)
	}
}

// awkwardMessage returns a message of size bytes whose header grows as much as
// it can where it is copied outside.
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
