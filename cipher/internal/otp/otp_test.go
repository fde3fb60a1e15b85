package otp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/qkdmail/qkdmail/cipher/internal/buffer"
	"github.com/qkdmail/qkdmail/cipher/internal/suitetest"
	"github.com/qkdmail/qkdmail/kmclient"
	//lint:ignore SA1019 see otp.go
	"golang.org/x/crypto/poly1305"
)

var control = []byte("control octets")

// A keyStore is a key manager in memory.
type keyStore struct {
	keys    map[string][]byte
	newID   func() string
	control []byte     // what seal authenticates
	asked   [][]string // IDs of each call of find
}

func newKeyStore() *keyStore {
	return &keyStore{keys: map[string][]byte{}, newID: uuid.NewString, control: control}
}

func (s *keyStore) get(size, number int) ([]*kmclient.Key, error) {
	var keys []*kmclient.Key
	for range number {
		key := suitetest.Random(size / 8)
		id := s.newID()
		s.keys[id] = key
		keys = append(keys, kmclient.NewKey(id, bytes.Clone(key)))
	}
	return keys, nil
}

func (s *keyStore) find(f *Frame) ([]*kmclient.Key, error) {
	s.asked = append(s.asked, f.KeyIDs)
	var keys []*kmclient.Key
	for _, id := range f.KeyIDs {
		key, ok := s.keys[id]
		if !ok {
			return nil, fmt.Errorf("%w: %s", kmclient.ErrKeyNotFound, id)
		}
		keys = append(keys, kmclient.NewKey(id, bytes.Clone(key)))
	}
	return keys, nil
}

// seal encrypts plain in writes of write bytes, and returns the payload and the
// ID of its first key.
func seal(t testing.TB, s *keyStore, limits Limits, plain []byte, write int) (payload []byte, keyID string) {
	t.Helper()
	var out bytes.Buffer
	w, err := NewWriter(WriterOptions{
		Limits: limits,
		Keys:   s.get,
		Open: func(id string) (io.Writer, []byte, error) {
			keyID = id
			return &out, s.control, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	suitetest.Write(t, w, plain, write)
	return out.Bytes(), keyID
}

// open decrypts a payload. With an error it returns what was released before.
func open(s *keyStore, payload []byte, keyID string) ([]byte, error) {
	r := NewReader(NewFrameReader(bytes.NewReader(payload)), ReaderOptions{
		Control: control, KeyID: keyID, Keys: s.find,
	})
	return suitetest.ReadAll(r.Next)
}

func TestRoundTrip(t *testing.T) {
	for name, limits := range map[string]Limits{
		"no limits":             {},
		"ETSI's example":        {MaxKeySize: 1024},
		"4096 bits":             {MaxKeySize: 4096},
		"256 bits, 255 keys":    {MaxKeySize: 256},
		"one key a request":     {MaxKeySize: 8192, frameKeys: 1},
		"only 512 bits":         {MinKeySize: 512, MaxKeySize: 512, frameKeys: 10},
		"a minimum of 100 kbit": {MinKeySize: 100000},
	} {
		c, err := limits.capacity()
		if err != nil {
			t.Fatal(name, err)
		}
		for _, size := range []int{0, 1, c - 1, c, c + 1, 2*c - 1, 2 * c, 2*c + 1, 3*c + 7} {
			for _, write := range []int{1 + size/5, c - 1, c, c + 1, 3 * c} {
				t.Run(fmt.Sprintf("%s: %d in %d", name, size, write), func(t *testing.T) {
					s := newKeyStore()
					plain := suitetest.Random(size)
					payload, keyID := seal(t, s, limits, plain, max(write, 1))
					got, err := open(s, payload, keyID)
					if err != nil || !bytes.Equal(got, plain) {
						t.Fatalf("%d bytes came back as %d, %v", size, len(got), err)
					}
					checkPads(t, s, payload, plain)
				})
			}
		}
	}
}

// checkPads computes the ciphertext from the layout in the package comment, which
// proves that bytes 0 to 15 of keys are not pad, and that no pad is used twice.
func checkPads(t *testing.T, s *keyStore, payload, plain []byte) {
	t.Helper()
	used := map[string]bool{}
	frames := NewFrameReader(bytes.NewReader(payload))
	for {
		f, err := frames.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		var pad []byte
		for i, id := range f.KeyIDs {
			if used[id] {
				t.Fatalf("key %s is used in two frames", id)
			}
			used[id] = true
			if i == 0 {
				pad = append(pad, s.keys[id][32:]...)
			} else {
				pad = append(pad, s.keys[id][16:]...)
			}
		}
		for i, c := range f.ciphertext {
			if c != plain[i]^pad[i] {
				t.Fatalf("byte %d of frame %d is not plaintext XOR pad", i, f.Number)
			}
		}
		plain = plain[f.Length:]
	}
	if len(plain) > 0 || len(used) != len(s.keys) {
		t.Errorf("%d bytes of plaintext are in no frame, %d of %d keys are used", len(plain), len(used), len(s.keys))
	}
}

// TestPlan checks for every length that the plan covers it within the limits and
// discards at most a byte a key.
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

// TestCost checks the overhead of the format with keys of 4096 bits: 16 bytes of
// 512, and 16 more a frame.
func TestCost(t *testing.T) {
	for _, size := range []int{10_000, 100_000, 1_000_000} {
		s := newKeyStore()
		seal(t, s, Limits{MaxKeySize: 4096}, suitetest.Random(size), size)
		total := 0
		for k := range maps.Values(s.keys) {
			total += len(k)
		}
		if cost := float64(total) / float64(size); cost > 1.05 {
			t.Errorf("%d bytes took %.3f times as many bytes of key, want 1.05 at most", size, cost)
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

// TestTooManyKeysAreNotFetched checks that no keys are fetched for a frame that is
// refused.
func TestTooManyKeysAreNotFetched(t *testing.T) {
	fetched := 0
	w, err := NewWriter(WriterOptions{
		Limits: Limits{MaxKeySize: 256},
		Keys:   func(int, int) ([]*kmclient.Key, error) { fetched++; return nil, kmclient.ErrKeyExhausted },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	for i := range MaxIDs - MaxKeys + 1 {
		if err := w.ids.add(fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Write(make([]byte, MaxFrame)); !errors.Is(err, ErrTooManyKeys) || fetched != 0 {
		t.Errorf("%v after %d requests, want ErrTooManyKeys before the first", err, fetched)
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

// split returns the bytes of each frame.
func split(t *testing.T, payload []byte) [][]byte {
	t.Helper()
	var frames [][]byte
	for r := NewFrameReader(bytes.NewReader(payload)); ; {
		f, err := r.Next()
		if err == io.EOF {
			return frames
		}
		if err != nil {
			t.Fatal(err)
		}
		frames = append(frames, slices.Concat(f.header, f.ciphertext, f.tag[:]))
	}
}

// TestTamper alters a payload of three frames in every way there is. A flip of any
// bit, key IDs included, and a cut at any byte must be refused, and nothing
// released but what precedes it.
func TestTamper(t *testing.T) {
	limits := Limits{MaxKeySize: 512, frameKeys: 3} // frames of 128 bytes
	s := newKeyStore()
	plain := suitetest.Random(300)
	payload, keyID := seal(t, s, limits, plain, len(plain))
	f := split(t, payload)
	if len(f) != 3 {
		t.Fatalf("%d frames, want 3", len(f))
	}
	s.control = []byte("control octets of another message")
	other, _ := seal(t, s, limits, suitetest.Random(300), 300)
	o := split(t, other)

	type test struct {
		name     string
		payload  []byte
		want     []error // one of these
		released int
	}
	tests := []test{
		{"swapped frames", slices.Concat(f[1], f[0], f[2]), []error{ErrKeyID}, 0},
		{"swapped later frames", slices.Concat(f[0], f[2], f[1]), []error{ErrTrailing}, 128},
		{"repeated frame", slices.Concat(f[0], f[0], f[1], f[2]), []error{ErrKeyRepeated}, 128},
		{"dropped frame", slices.Concat(f[0], f[2]), []error{ErrTag}, 128},
		{"dropped first frame", slices.Concat(f[1], f[2]), []error{ErrKeyID}, 0},
		{"dropped last frame", slices.Concat(f[0], f[1]), []error{ErrTruncated}, 256},
		{"frame appended", slices.Concat(payload, o[2]), []error{ErrTrailing}, 256},
		{"byte appended", slices.Concat(payload, []byte{0}), []error{ErrTrailing}, 256},
		{"frame of another message", slices.Concat(f[0], o[1], f[2]), []error{ErrTag}, 128},
		{"another message", other, []error{ErrKeyID}, 0},
		{"nothing", nil, []error{ErrTruncated}, 0},
		{"no keys", []byte{1, 0, 0, 0, 0, 0}, []error{ErrFrame}, 0},
		{"unknown flag", append([]byte{f[0][0] | 2}, payload[1:]...), []error{ErrFrame}, 0},
		{"blank in an ID", append([]byte{1, 1, 3}, "a b\x00\x00\x00\x00"...), []error{ErrFrame}, 0},
		{"frame too long", append([]byte{1, 1, 1, 'a'}, 0, 1, 0, 1), []error{ErrFrame}, 0},
		{"empty frame that is not the last", append([]byte{0, 1, 1, 'a'}, 0, 0, 0, 0), []error{ErrFrame}, 0},
		{"empty last frame after others", slices.Concat(f[0], append([]byte{1, 1, 1, 'a'}, make([]byte, 4+TagSize)...)), []error{ErrFrame}, 128},
	}
	edges := []int{len(f[0]), len(f[0]) + len(f[1]), len(payload)}
	releasedBefore := func(at int) int {
		for i, e := range edges {
			if at < e {
				return i * 128
			}
		}
		return 256
	}
	for bit := range 8 * len(payload) {
		p := bytes.Clone(payload)
		p[bit/8] ^= 1 << (bit % 8)
		tests = append(tests, test{fmt.Sprintf("bit %d", bit), p, []error{
			ErrTag, ErrFrame, ErrTruncated, ErrTrailing, ErrKeyID, ErrKeyRepeated, kmclient.ErrKeyNotFound,
		}, releasedBefore(bit / 8)})
	}
	for cut := range payload {
		tests = append(tests, test{fmt.Sprintf("cut at %d", cut), payload[:cut], []error{ErrTruncated}, releasedBefore(cut)})
	}
	for _, tt := range tests {
		got, err := open(s, tt.payload, keyID)
		if !slices.ContainsFunc(tt.want, func(want error) bool { return errors.Is(err, want) }) {
			t.Errorf("%s: error %v, want one of %v", tt.name, err, tt.want)
		}
		if len(got) > tt.released || !bytes.HasPrefix(plain, got) {
			t.Errorf("%s: released %d bytes, at most %d are authentic", tt.name, len(got), tt.released)
		}
	}
}

// TestForgedFrame plays an author who gets the pad of a message from its plaintext
// and forges a frame under one of its keys. The author knows all of each key but
// its first 16 bytes (32 of the first key), which is not enough.
func TestForgedFrame(t *testing.T) {
	s := newKeyStore()
	plain := suitetest.Random(100)
	payload, _ := seal(t, s, Limits{MaxKeySize: 512, frameKeys: 3}, plain, len(plain))
	f, err := NewFrameReader(bytes.NewReader(payload)).Next()
	if err != nil {
		t.Fatal(err)
	}
	for i, id := range f.KeyIDs {
		known := bytes.Clone(s.keys[id])
		clear(known[:16]) // which no frame reveals
		if i == 0 {
			clear(known[:32])
		}
		forged := forge(id, known, []byte("pay the bearer"))
		if got, err := open(s, forged, id); !errors.Is(err, ErrTag) || len(got) > 0 {
			t.Errorf("forged under key %d: released %q, error %v, want %v", i, got, err, ErrTag)
		}
		// With the whole key the frame opens: so it is the 16 bytes that are
		// missing, and not a mistake in the test.
		if got, err := open(s, forge(id, s.keys[id], plain[:20]), id); err != nil || !bytes.Equal(got, plain[:20]) {
			t.Errorf("with the whole key: %q, error %v", got, err)
		}
	}
}

// forge returns a frame, made from the layout in the package comment without the
// code under test.
func forge(id string, key, plain []byte) []byte {
	u := uuid.MustParse(id)
	frame := append([]byte{1, 1, 0}, u[:]...)
	frame = binary.BigEndian.AppendUint32(frame, uint32(len(plain)))
	var in []byte
	pad16 := func(b []byte) { in = append(append(in, b...), make([]byte, (16-len(b)%16)%16)...) }
	ciphertext := make([]byte, len(plain))
	for i := range plain {
		ciphertext[i] = plain[i] ^ key[32+i]
	}
	pad16(control)
	pad16(frame)
	pad16(ciphertext)
	for _, n := range []int{len(control), len(frame), len(ciphertext), 0} {
		in = binary.LittleEndian.AppendUint64(in, uint64(n))
	}
	var tag [16]byte
	poly1305.Sum(&tag, in, (*[32]byte)(slices.Concat(key[16:32], key[:16])))
	return slices.Concat(frame, ciphertext, tag[:])
}

// TestKeysFrameByFrame checks that no key is fetched for the frames after one that
// fails.
func TestKeysFrameByFrame(t *testing.T) {
	s := newKeyStore()
	payload, keyID := seal(t, s, Limits{MaxKeySize: 512, frameKeys: 3}, suitetest.Random(1000), 1000)
	frames := split(t, payload)
	frames[1][len(frames[1])-1] ^= 1
	if _, err := open(s, slices.Concat(frames...), keyID); !errors.Is(err, ErrTag) {
		t.Fatalf("error %v, want %v", err, ErrTag)
	}
	if len(s.asked) != 2 {
		t.Errorf("keys were fetched for %d frames, want 2: frame 1 fails", len(s.asked))
	}
}

func TestKeyIDs(t *testing.T) {
	n := 0
	for name, newID := range map[string]func() string{
		"UUID in upper case": func() string { return strings.ToUpper(uuid.NewString()) },
		"UUID with braces":   func() string { return "{" + uuid.NewString() + "}" },
		"mock":               func() string { n++; return fmt.Sprintf("MOCK-KEY-%08d-20251012195641", n) },
		"longest":            func() string { n++; return fmt.Sprintf("%0255d", n) },
		"shortest":           func() string { n++; return string(rune('!' + n)) },
	} {
		s := newKeyStore()
		s.newID = newID
		plain := suitetest.Random(300)
		payload, keyID := seal(t, s, Limits{MaxKeySize: 512, frameKeys: 3}, plain, 300)
		if got, err := open(s, payload, keyID); err != nil || !bytes.Equal(got, plain) {
			t.Errorf("%s: %v", name, err)
		}
		for _, id := range slices.Concat(s.asked...) {
			if _, ok := s.keys[id]; !ok {
				t.Errorf("%s: key asked for as %q, which is not how it was spelled", name, id)
			}
		}
	}
}

// TestBadKeySource encrypts with keys that no key manager may give.
func TestBadKeySource(t *testing.T) {
	key := kmclient.NewKey
	a, b := uuid.NewString(), uuid.NewString()
	tests := map[string]struct {
		keys func(size, number int) []*kmclient.Key
		want error
	}{
		"too few": {func(size, _ int) []*kmclient.Key { return []*kmclient.Key{key(a, suitetest.Random(size/8))} }, kmclient.ErrBadKey},
		"too short": {func(size, _ int) []*kmclient.Key {
			return []*kmclient.Key{key(a, suitetest.Random(8)), key(b, suitetest.Random(8))}
		}, kmclient.ErrBadKey},
		"equal bytes": {func(size, _ int) []*kmclient.Key {
			return []*kmclient.Key{key(a, make([]byte, size/8)), key(b, suitetest.Random(size/8))}
		}, kmclient.ErrBadKey},
		"same key twice": {func(size, _ int) []*kmclient.Key {
			k := suitetest.Random(size / 8)
			return []*kmclient.Key{key(a, k), key(b, k)}
		}, kmclient.ErrBadKey},
		"same ID twice": {func(size, _ int) []*kmclient.Key {
			return []*kmclient.Key{key(a, suitetest.Random(size/8)), key(a, suitetest.Random(size/8))}
		}, kmclient.ErrBadKey},
		"same ID respelt": {func(size, _ int) []*kmclient.Key {
			return []*kmclient.Key{key(a, suitetest.Random(size/8)), key(strings.ToUpper(a), suitetest.Random(size/8))}
		}, kmclient.ErrBadKey},
		"IDs of old again": {func(size, _ int) []*kmclient.Key {
			return []*kmclient.Key{key(a, suitetest.Random(size/8)), key(b, suitetest.Random(size/8))}
		}, ErrKeyRepeated},
	}
	for name, tt := range tests {
		var out bytes.Buffer
		w, err := NewWriter(WriterOptions{
			Limits: Limits{MinKeySize: 512, MaxKeySize: 512, frameKeys: 2},
			Keys:   func(size, number int) ([]*kmclient.Key, error) { return tt.keys(size, number), nil },
			Open:   func(string) (io.Writer, []byte, error) { return &out, control, nil },
		})
		if err != nil {
			t.Fatal(err)
		}
		_, err = w.Write(suitetest.Random(200)) // the second frame is needed for the last case
		if err == nil {
			err = w.Close()
		}
		if !errors.Is(err, tt.want) {
			t.Errorf("%s: error %v, want %v", name, err, tt.want)
		}
		if _, err := w.Write([]byte("x")); err == nil {
			t.Errorf("%s: Write succeeded after an error", name)
		}
	}
}

func TestShortReceivingKey(t *testing.T) {
	s := newKeyStore()
	payload, keyID := seal(t, s, Limits{}, suitetest.Random(100), 100)
	for _, size := range []int{8, 31, 32, 131} {
		short := newKeyStore()
		short.keys[keyID] = s.keys[keyID][:size]
		want := ErrShortKeys
		if got, err := open(short, payload, keyID); !errors.Is(err, want) || len(got) > 0 {
			t.Errorf("key of %d bytes: released %d bytes, error %v, want %v", size, len(got), err, want)
		}
	}
}

func TestTooManyKeys(t *testing.T) {
	long := strings.Repeat("x", 255)
	for _, tt := range []struct {
		name string
		most int
		id   func(i int) string
	}{
		{"short IDs", MaxIDs, func(i int) string { return fmt.Sprint(i) }},
		{"UUIDs", MaxIDs, func(i int) string { return fmt.Sprintf("00000000-0000-0000-0000-%012x", i) }},
		{"the longest spelling of UUIDs", MaxIDs, func(i int) string { return fmt.Sprintf("urn:uuid:00000000-0000-0000-0000-%012x", i) }},
		{"64 bytes", MaxIDs, func(i int) string { return fmt.Sprintf("%064d", i) }},
		{"65 bytes", MaxIDBytes / 65, func(i int) string { return fmt.Sprintf("%065d", i) }},
		{"the longest IDs", MaxIDBytes / 255, func(i int) string { return fmt.Sprint(long[:249], 100_000+i) }},
	} {
		s := newIDSet()
		for i := range tt.most {
			if err := s.add(tt.id(i)); err != nil {
				t.Fatalf("%s: number %d of %d: %v", tt.name, i+1, tt.most, err)
			}
		}
		if err := s.add(tt.id(tt.most)); !errors.Is(err, ErrTooManyKeys) {
			t.Errorf("%s: one more than %d: error %v, want %v", tt.name, tt.most, err, ErrTooManyKeys)
		}
	}
}

// TestFramesWithLongIDs checks that the key IDs that a FrameReader remembers are
// limited in bytes.
func TestFramesWithLongIDs(t *testing.T) {
	pr, pw := io.Pipe()
	defer pr.Close()
	go func() {
		for frame := 0; ; frame++ {
			b := []byte{0, MaxKeys}
			for key := range MaxKeys {
				b = append(b, 255)
				b = fmt.Appendf(b, "%0255d", frame*MaxKeys+key)
			}
			b = append(b, 0, 0, 0, 1, 'x')
			if _, err := pw.Write(append(b, make([]byte, TagSize)...)); err != nil {
				return
			}
		}
	}()
	r := NewFrameReader(pr)
	defer r.Free()
	for bytes := 0; ; {
		f, err := r.Next()
		if err != nil {
			if !errors.Is(err, ErrTooManyKeys) {
				t.Errorf("after %d bytes of IDs: %v, want %v", bytes, err, ErrTooManyKeys)
			}
			return
		}
		for _, id := range f.KeyIDs {
			bytes += len(id)
		}
		if bytes > MaxIDBytes {
			t.Fatalf("%d bytes of key IDs were accepted, want at most %d", bytes, MaxIDBytes)
		}
	}
}

// TestWiped checks that buffers return to the pool empty, whether a message is
// complete or aborted.
func TestWiped(t *testing.T) {
	s := newKeyStore()
	plain := bytes.Repeat([]byte("secret"), 10)
	for _, end := range []func(*Writer){func(w *Writer) { _ = w.Close() }, (*Writer).Abort} {
		w, err := NewWriter(WriterOptions{Keys: s.get, Open: func(string) (io.Writer, []byte, error) {
			return io.Discard, control, nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(plain); err != nil {
			t.Fatal(err)
		}
		held := w.buf
		end(w)
		if *held != (buffer.Buffer{}) {
			t.Error("a Writer's buffer is not wiped")
		}
	}
	payload, keyID := seal(t, s, Limits{}, plain, len(plain))
	r := NewReader(NewFrameReader(bytes.NewReader(payload)), ReaderOptions{Control: control, KeyID: keyID, Keys: s.find})
	if got, err := r.Next(); err != nil || !bytes.Equal(got, plain) {
		t.Fatal(err)
	}
	held := r.frames.buf
	if _, err := r.Next(); err != io.EOF {
		t.Fatal(err)
	}
	if *held != (buffer.Buffer{}) {
		t.Error("a Reader's buffer is not wiped")
	}
}

// FuzzReader reads any payload: nothing may be released but the one message that was
// made with the keys.
func FuzzReader(f *testing.F) {
	s := newKeyStore()
	n := byte(0)
	s.newID = func() string { n++; return uuid.UUID{15: n}.String() }
	plain := []byte("From: a@example.org\n\nhello, this takes more than one frame\n")
	payload, keyID := seal(f, s, Limits{MaxKeySize: 384, frameKeys: 2}, plain, len(plain))
	f.Add(payload)
	f.Add([]byte{1, 1, 1, 'a', 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := open(s, b, keyID)
		if err == nil && !bytes.Equal(b, payload) || !bytes.HasPrefix(plain, got) {
			t.Fatalf("a forged payload gave %d bytes, error %v", len(got), err)
		}
	})
}
