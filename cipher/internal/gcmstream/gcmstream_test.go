package gcmstream

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"
	"testing/iotest"

	"github.com/qkdmail/qkdmail/cipher/internal/suitetest"
)

var control = []byte("control octets")

// seal encrypts plain in writes of write bytes.
func seal(t testing.TB, key, plain []byte, write int) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := NewWriter(&out, nil, key, control, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	suitetest.Write(t, w, plain, write)
	return out.Bytes()
}

// open decrypts a payload. With an error it also returns what was released before.
func open(key, control []byte, payload io.Reader) ([]byte, error) {
	r, err := NewReader(payload)
	if err != nil {
		return nil, err
	}
	if err := r.Unlock(nil, key, control); err != nil {
		return nil, err
	}
	return suitetest.ReadAll(r.Next)
}

func TestRoundTrip(t *testing.T) {
	key := suitetest.Random(KeySize)
	for _, size := range []int{0, 1, 2, ChunkSize - 1, ChunkSize, ChunkSize + 1, 2*ChunkSize - 1, 2 * ChunkSize, 2*ChunkSize + 1, 3*ChunkSize + 5} {
		for _, write := range []int{1 + size/7, 1000, ChunkSize - 1, ChunkSize, ChunkSize + 1, 4 * ChunkSize} {
			t.Run(fmt.Sprintf("%d in %d", size, write), func(t *testing.T) {
				plain := suitetest.Random(size)
				payload := seal(t, key, plain, write)
				if got := PlaintextSize(int64(len(payload))); got != int64(size) {
					t.Errorf("PlaintextSize(%d) = %d, want %d", len(payload), got, size)
				}
				for name, src := range map[string]io.Reader{
					"whole":        bytes.NewReader(payload),
					"halves":       iotest.HalfReader(bytes.NewReader(payload)),
					"data and EOF": iotest.DataErrReader(bytes.NewReader(payload)),
				} {
					if got, err := open(key, control, src); err != nil || !bytes.Equal(got, plain) {
						t.Errorf("%s: %d bytes came back as %d, %v", name, size, len(got), err)
					}
				}
			})
		}
	}
}

func TestPlaintextSizeOfNoPayload(t *testing.T) {
	for _, n := range []int64{0, HeaderSize, HeaderSize + Overhead - 1, HeaderSize + ChunkSize + 2*Overhead, HeaderSize + 2*(ChunkSize+Overhead) + 5} {
		if got := PlaintextSize(n); got != -1 {
			t.Errorf("PlaintextSize(%d) = %d, want -1: no writer makes it", n, got)
		}
	}
}

// TestTamper alters a payload of three chunks in every way there is. The reader must
// report an error, and release only what precedes the alteration.
func TestTamper(t *testing.T) {
	const sealed = ChunkSize + Overhead
	key, plain := suitetest.Random(KeySize), suitetest.Random(2*ChunkSize+100)
	payload := seal(t, key, plain, len(plain))
	other := seal(t, key, suitetest.Random(len(plain)), len(plain))
	chunk := func(p []byte, i int) []byte { return p[HeaderSize+i*sealed : min(HeaderSize+(i+1)*sealed, len(p))] }
	header := payload[:HeaderSize]

	flip := func(i int) []byte {
		p := bytes.Clone(payload)
		p[i/8] ^= 1 << (i % 8)
		return p
	}
	type test struct {
		name     string
		payload  []byte
		want     error
		released int // bytes of plain that may come out
	}
	tests := []test{
		{"swapped chunks", slices.Concat(header, chunk(payload, 1), chunk(payload, 0), chunk(payload, 2)), ErrChunk, 0},
		{"repeated chunk", slices.Concat(header, chunk(payload, 0), chunk(payload, 0), chunk(payload, 1), chunk(payload, 2)), ErrChunk, ChunkSize},
		{"dropped chunk", slices.Concat(header, chunk(payload, 0), chunk(payload, 2)), ErrChunk, ChunkSize},
		{"dropped first chunk", slices.Concat(header, chunk(payload, 1), chunk(payload, 2)), ErrChunk, 0},
		{"last chunk repeated", slices.Concat(payload, chunk(payload, 2)), ErrChunk, 2 * ChunkSize},
		{"chunk appended", slices.Concat(payload, chunk(payload, 1)), ErrChunk, 2 * ChunkSize},
		{"byte appended", append(bytes.Clone(payload), 0), ErrChunk, 2 * ChunkSize},
		{"chunk of another message", slices.Concat(header, chunk(payload, 0), chunk(other, 1), chunk(payload, 2)), ErrChunk, ChunkSize},
		{"header of another message", slices.Concat(other[:HeaderSize], payload[HeaderSize:]), ErrChunk, 0},
		{"salt of another message", slices.Concat(other[:32], payload[32:]), ErrCommitment, 0},
		{"nothing", nil, ErrTruncated, 0},
		{"no chunk", header, ErrTruncated, 0},
		{"part of a tag", payload[:HeaderSize+Overhead-1], ErrTruncated, 0},
		{"an empty chunk of another", payload[:HeaderSize+Overhead], ErrChunk, 0},
	}
	for i := range 8 * HeaderSize {
		tests = append(tests, test{fmt.Sprintf("bit %d of the header", i), flip(i), ErrCommitment, 0})
	}
	for c := range 3 {
		for _, at := range []int{0, 77, len(chunk(payload, c)) - Overhead, len(chunk(payload, c)) - 1} {
			i := 8 * (HeaderSize + c*sealed + at)
			tests = append(tests, test{fmt.Sprintf("bit %d", i), flip(i + at%8), ErrChunk, c * ChunkSize})
		}
	}
	for c := 1; c <= 2; c++ {
		edge := HeaderSize + c*sealed
		for _, cut := range []int{edge - 1, edge, edge + 1, edge + Overhead} {
			released := (cut - HeaderSize) / sealed * ChunkSize
			if cut == edge {
				released -= ChunkSize // the chunk at the end is not marked as last
			}
			tests = append(tests, test{fmt.Sprintf("cut at %d", cut), payload[:cut], ErrChunk, released})
		}
	}
	for _, tt := range tests {
		got, err := open(key, control, bytes.NewReader(tt.payload))
		if !errors.Is(err, tt.want) {
			t.Errorf("%s: error %v, want %v", tt.name, err, tt.want)
		}
		if len(got) > tt.released || !bytes.HasPrefix(plain, got) {
			t.Errorf("%s: released %d bytes, but at most %d are authentic", tt.name, len(got), tt.released)
		}
	}
}

// TestEmptyLastChunk seals an empty last chunk after a full one, with the right key.
// No writer does that: it would be a second form of the same message.
func TestEmptyLastChunk(t *testing.T) {
	key := suitetest.Random(KeySize)
	var out bytes.Buffer
	w, err := NewWriter(&out, nil, key, control, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(suitetest.Random(ChunkSize)); err != nil {
		t.Fatal(err)
	}
	w.seal(w.plain) // as if a byte followed
	w.plain = w.plain[:0]
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := open(key, control, &out); !errors.Is(err, ErrChunk) {
		t.Errorf("error %v, want %v", err, ErrChunk)
	}
}

func TestWrongKeyOrControl(t *testing.T) {
	key := suitetest.Random(KeySize)
	payload := seal(t, key, suitetest.Random(10), 10)
	if _, err := open(suitetest.Random(KeySize), control, bytes.NewReader(payload)); !errors.Is(err, ErrCommitment) {
		t.Errorf("another key: error %v, want %v", err, ErrCommitment)
	}
	if _, err := open(key, []byte("control octetS"), bytes.NewReader(payload)); !errors.Is(err, ErrCommitment) {
		t.Errorf("other control octets: error %v, want %v", err, ErrCommitment)
	}
	for _, size := range []int{0, 16, 31, 33, 64} {
		if _, err := NewWriter(io.Discard, nil, suitetest.Random(size), control, rand.Reader); err == nil {
			t.Errorf("a key of %d bytes was accepted", size)
		}
	}
}

func TestNonceCarries(t *testing.T) {
	n := nonce{9: 0xFE, 10: 0xFF}
	n.next()
	if want := (nonce{9: 0xFF}); n != want {
		t.Errorf("after a carry %x, want %x", n, want)
	}
	n = nonce{8: 1, 9: 0xFF, 10: 0xFF}
	n.next()
	if want := (nonce{8: 2}); n != want {
		t.Errorf("after two carries %x, want %x", n, want)
	}
}

func TestWriterIsFinal(t *testing.T) {
	var out bytes.Buffer
	w, err := NewWriter(&out, nil, suitetest.Random(KeySize), control, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = w.Write([]byte("secret"))
	buf := w.buf
	w.Abort()
	if bytes.Contains(buf[:], []byte("secret")) {
		t.Error("the buffer still holds plaintext after Abort")
	}
	if _, err := w.Write([]byte("x")); err == nil {
		t.Error("Write after Abort succeeded")
	}
	if err := w.Close(); err == nil {
		t.Error("Close after Abort completed the message")
	}

	fail := errors.New("disk full")
	w, err = NewWriter(&out, nil, suitetest.Random(KeySize), control, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	w.dst = failingWriter{fail}
	_, _ = w.Write(suitetest.Random(3 * ChunkSize))
	if err := w.Close(); !errors.Is(err, fail) {
		t.Errorf("Close after a failed write = %v, want %v", err, fail)
	}
}

type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }

// FuzzReader reads any payload, under a key that the fuzzer can't know: only the one
// message that was made with it may be released.
func FuzzReader(f *testing.F) {
	key := bytes.Repeat([]byte("fuzz"), KeySize/4)
	var out bytes.Buffer
	w, err := NewWriter(&out, nil, key, control, bytes.NewReader(make([]byte, 32)))
	if err != nil {
		f.Fatal(err)
	}
	plain := []byte("From: a@example.org\n\nhello\n")
	_, _ = w.Write(plain)
	if err := w.Close(); err != nil {
		f.Fatal(err)
	}
	f.Add(out.Bytes())
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, payload []byte) {
		got, err := open(key, control, bytes.NewReader(payload))
		switch {
		case err == nil && !bytes.Equal(payload, out.Bytes()):
			t.Fatalf("a forged payload opened: %x", payload)
		case err != nil && len(got) > 0:
			t.Fatalf("%d bytes were released before error %v", len(got), err)
		}
	})
}
