package otp

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"testing"

	"github.com/google/uuid"
	"github.com/qkdmail/qkdmail/cipher/internal/buffer"
	"github.com/qkdmail/qkdmail/cipher/internal/suitetest"
	"github.com/qkdmail/qkdmail/kmclient"
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

// open decrypts a payload. With an error it also returns what was released before.
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

// checkPads computes the ciphertext from the layout in the package comment. This proves
// that bytes 0 to 15 of keys are not pad, and that no pad is used twice.
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

// TestWiped checks that buffers are wiped before they return to the pool, whether a
// message is complete or aborted.
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
