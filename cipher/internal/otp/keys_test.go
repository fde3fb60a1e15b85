package otp

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/qkdmail/qkdmail/cipher/internal/suitetest"
	"github.com/qkdmail/qkdmail/kmclient"
)

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
				t.Errorf("%s: key asked for as %q, which is not its original spelling", name, id)
			}
		}
	}
}

// TestBadKeySource encrypts with keys that a key manager must not give.
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

// TestBadKeyFinder decrypts with answers that are not the keys of the frame.
func TestBadKeyFinder(t *testing.T) {
	s := newKeyStore()
	payload, keyID := seal(t, s, Limits{MaxKeySize: 512, frameKeys: 3}, suitetest.Random(100), 100)
	fail := errors.New("no connection")
	for name, tt := range map[string]struct {
		answer func(keys []*kmclient.Key) ([]*kmclient.Key, error)
		want   error
	}{
		"an error":      {func(keys []*kmclient.Key) ([]*kmclient.Key, error) { return keys[:1], fail }, fail},
		"io.EOF":        {func([]*kmclient.Key) ([]*kmclient.Key, error) { return nil, io.EOF }, io.EOF},
		"too few":       {func(keys []*kmclient.Key) ([]*kmclient.Key, error) { return keys[1:], nil }, kmclient.ErrBadKey},
		"another order": {func(keys []*kmclient.Key) ([]*kmclient.Key, error) { slices.Reverse(keys); return keys, nil }, kmclient.ErrBadKey},
	} {
		r := NewReader(NewFrameReader(bytes.NewReader(payload)), ReaderOptions{
			Control: control, KeyID: keyID,
			Keys: func(f *Frame) ([]*kmclient.Key, error) {
				keys, err := s.find(f)
				if err != nil {
					t.Fatal(err)
				}
				return tt.answer(keys)
			},
		})
		plain, err := r.Next()
		if !errors.Is(err, tt.want) || err == io.EOF || len(plain) > 0 {
			t.Errorf("%s: released %d bytes, error %v, want %v", name, len(plain), err, tt.want)
		}
		if _, again := r.Next(); again != err {
			t.Errorf("%s: error %v at first, then %v", name, err, again)
		}
	}
	refuse := errors.New("bound to another message")
	r := NewReader(NewFrameReader(bytes.NewReader(payload)), ReaderOptions{
		Control: control, KeyID: keyID, Keys: s.find, Verified: func(*Frame) error { return refuse },
	})
	if plain, err := r.Next(); !errors.Is(err, refuse) || len(plain) > 0 {
		t.Errorf("Verified refuses: released %d bytes, error %v, want %v", len(plain), err, refuse)
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
