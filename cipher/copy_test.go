package cipher_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/qkdmail/qkdmail/cipher"
)

var streamSizes = []int{0, 1, 65536, 65537, 256 << 10, 1<<20 + 5, 5<<20 + 100}

// TestCopy encrypts with ReadFrom and decrypts with WriteTo, both called by io.Copy,
// and compares with Read.
func TestCopy(t *testing.T) {
	for _, suite := range suites {
		for _, size := range streamSizes {
			km, plain := newDerivedKM(), benchMessage(size)[:size]
			var outer, restored bytes.Buffer
			w, err := cipher.Encrypt(t.Context(), &outer, km, forSuite(&cipher.EncryptOptions{Suite: suite}))
			if err != nil {
				t.Fatal(err)
			}
			// iotest's reader has no WriteTo, which io.Copy would prefer.
			if n, err := io.Copy(w, iotest.DataErrReader(bytes.NewReader(plain))); n != int64(size) || err != nil {
				t.Fatalf("%s, %d bytes: ReadFrom = %d, %v", suite, size, n, err)
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			r, err := cipher.Decrypt(t.Context(), bytes.NewReader(outer.Bytes()), km, unbound())
			if err != nil {
				t.Fatal(err)
			}
			if n, err := io.Copy(&restored, r); n != int64(size) || err != nil || !bytes.Equal(restored.Bytes(), plain) {
				t.Errorf("%s, %d bytes: WriteTo = %d, %v", suite, size, n, err)
			}
			if got := [2]int64{w.Info().PlaintextSize, r.Info().PlaintextSize}; got != [2]int64{int64(size), int64(size)} {
				t.Errorf("%s, %d bytes: Info says %v", suite, size, got)
			}
			if got, err := decrypt(t, km, outer.Bytes(), nil); err != nil || !bytes.Equal(got, plain) {
				t.Errorf("%s, %d bytes: Read gives %d, %v", suite, size, len(got), err)
			}
		}
	}
}

// A limitedWriter fails after room bytes.
type limitedWriter struct {
	bytes.Buffer
	room int
}

var errFull = errors.New("disk full")

func (w *limitedWriter) Write(p []byte) (int, error) {
	n := min(len(p), w.room-w.Len())
	w.Buffer.Write(p[:n])
	if n < len(p) {
		return n, errFull
	}
	return n, nil
}

// copyTo encrypts all of src with io.Copy.
func copyTo(t *testing.T, dst io.Writer, km cipher.KeySource, src io.Reader, suite cipher.Suite) error {
	t.Helper()
	w, err := cipher.Encrypt(t.Context(), dst, km, forSuite(&cipher.EncryptOptions{Suite: suite}))
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	if _, err := io.Copy(w, src); err != nil {
		return err
	}
	return w.Close()
}

// breaks are where copies of a message of copySize bytes break, early and late.
var breaks = []int{0, 1000, 100_000, 1 << 20, 2 << 20, copySize - 1}

const copySize = 5 << 20

// TestEncryptingCopyFails breaks a copy at either end. The copy must report the error
// and write nothing after it.
func TestEncryptingCopyFails(t *testing.T) {
	plain := benchMessage(copySize)
	broken := errors.New("connection lost")
	for _, suite := range suites {
		km := newDerivedKM()
		for _, at := range breaks {
			full := &limitedWriter{room: at}
			if err := copyTo(t, full, km, iotest.DataErrReader(bytes.NewReader(plain)), suite); !errors.Is(err, errFull) || full.Len() != at {
				t.Errorf("%s, room for %d bytes: error %v, want %v; %d written", suite, at, err, errFull, full.Len())
			}
			var out bytes.Buffer
			src := struct{ io.Reader }{io.MultiReader(bytes.NewReader(plain[:at]), iotest.ErrReader(broken))}
			if err := copyTo(t, &out, km, src, suite); !errors.Is(err, broken) {
				t.Errorf("%s, source that breaks at %d: error %v, want %v", suite, at, err, broken)
			}
			if _, err := decrypt(t, km, out.Bytes(), nil); err == nil {
				t.Errorf("%s, source that breaks at %d: the message is complete", suite, at)
			}
		}
	}
}

// TestDecryptingCopyFails breaks a copy at its destination or with an altered message.
// The copy must report the error, and write nothing after it and nothing that is not
// part of the message.
func TestDecryptingCopyFails(t *testing.T) {
	plain := benchMessage(copySize)
	for _, suite := range suites {
		km := newDerivedKM()
		outer := encrypt(t, km, plain, &cipher.EncryptOptions{Suite: suite})
		for _, at := range breaks {
			r, err := cipher.Decrypt(t.Context(), bytes.NewReader(outer), km, unbound())
			if err != nil {
				t.Fatal(err)
			}
			full := &limitedWriter{room: at}
			if n, err := io.Copy(full, r); !errors.Is(err, errFull) || n != int64(at) || !bytes.Equal(full.Bytes(), plain[:at]) {
				t.Errorf("%s, room for %d bytes: %d written, error %v", suite, at, n, err)
			}

			altered := bytes.Clone(outer)
			altered[2000+at*4/3*77/76] ^= 1 // a letter, or a line end
			var got bytes.Buffer
			r, err = cipher.Decrypt(t.Context(), bytes.NewReader(altered), km, unbound())
			if err == nil {
				_, err = io.Copy(&got, r)
			}
			if !refused(err) {
				t.Errorf("%s, altered at %d: error %v", suite, at, err)
			}
			if !bytes.HasPrefix(plain, got.Bytes()) || got.Len() == len(plain) {
				t.Errorf("%s, altered at %d: %d bytes released", suite, at, got.Len())
			}
		}
	}
}

// TestCopyKeepsUp checks that everything is written when a copy returns.
func TestCopyKeepsUp(t *testing.T) {
	km, plain := newDerivedKM(), benchMessage(5<<20)
	outer := encrypt(t, km, plain, nil)
	r, err := cipher.Decrypt(t.Context(), bytes.NewReader(outer), km, unbound())
	if err != nil {
		t.Fatal(err)
	}
	slow := &slowWriter{}
	if _, err := io.Copy(slow, r); err != nil || slow.n != len(plain) {
		t.Errorf("%d bytes are written when the copy returns, want %d; error %v", slow.n, len(plain), err)
	}
}

// A slowWriter needs a millisecond for each write.
type slowWriter struct{ n int }

func (w *slowWriter) Write(p []byte) (int, error) {
	time.Sleep(time.Millisecond)
	w.n += len(p)
	return len(p), nil
}

// A shortWriter writes 10 bytes too few, without an error, after its first from
// bytes.
type shortWriter struct {
	size, from int64
}

func (w *shortWriter) Write(p []byte) (int, error) {
	w.size += int64(len(p))
	if w.size > w.from && len(p) > 10 {
		return len(p) - 10, nil
	}
	return len(p), nil
}

// TestShortWrites checks that a copy to a writer that writes too little also writes the
// rest, or fails with an error.
func TestShortWrites(t *testing.T) {
	const size = 4 << 20
	km, plain := newTestKM(), strings.Repeat("0123456789abcdef", size/16)
	r, err := cipher.Decrypt(t.Context(), bytes.NewReader(encrypt(t, km, []byte(plain), nil)), km, unbound())
	if err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(&shortWriter{from: size / 2}, r); err == nil && n != size {
		t.Errorf("WriteTo: %d of %d bytes and no error", n, size)
	}
	for name, src := range map[string]io.Reader{
		"Write":    strings.NewReader(plain), // has WriteTo
		"ReadFrom": struct{ io.Reader }{strings.NewReader(plain)},
	} {
		if err := copyTo(t, &shortWriter{from: size / 2}, km, src, cipher.SuiteAES256GCM); err == nil {
			t.Errorf("%s: bytes of the encrypted message are missing, and no error", name)
		}
	}
}
