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
	"github.com/qkdmail/qkdmail/kmclient"
)

var streamSizes = []int{0, 1, 65536, 65537, 256 << 10, 1<<20 + 5, 5<<20 + 100}

// TestCopy encrypts with ReadFrom and decrypts with WriteTo, which io.Copy
// calls, and wants what Write and Read give.
func TestCopy(t *testing.T) {
	for _, suite := range suites {
		for _, size := range streamSizes {
			km, plain := newDerivedKM(), benchMessage(size)[:size]
			var outer, restored bytes.Buffer
			w, err := cipher.Encrypt(t.Context(), &outer, km, &cipher.EncryptOptions{Suite: suite})
			if err != nil {
				t.Fatal(err)
			}
			// iotest's reader has no WriteTo, which io.Copy would prefer.
			if n, err := io.Copy(w, iotest.DataErrReader(bytes.NewReader(plain))); n != int64(size) || err != nil {
				t.Fatalf("%s, %d octets: ReadFrom = %d, %v", suite, size, n, err)
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			r, err := cipher.Decrypt(t.Context(), bytes.NewReader(outer.Bytes()), km, unbound())
			if err != nil {
				t.Fatal(err)
			}
			if n, err := io.Copy(&restored, r); n != int64(size) || err != nil || !bytes.Equal(restored.Bytes(), plain) {
				t.Errorf("%s, %d octets: WriteTo = %d, %v", suite, size, n, err)
			}
			if got := [2]int64{w.Info().PlaintextSize, r.Info().PlaintextSize}; got != [2]int64{int64(size), int64(size)} {
				t.Errorf("%s, %d octets: %v are told", suite, size, got)
			}
			if got, err := decrypt(t, km, outer.Bytes(), nil); err != nil || !bytes.Equal(got, plain) {
				t.Errorf("%s, %d octets: Read gives %d, %v", suite, size, len(got), err)
			}
		}
	}
}

// A limitedWriter takes so many octets and then fails.
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

// TestCopyFails breaks a copy at either end and in the key manager, early and
// late, and wants the error, nothing that is no part of the message, and
// nothing written after it.
func TestCopyFails(t *testing.T) {
	const size = 5 << 20
	plain := benchMessage(size)
	broken := errors.New("connection lost")
	for _, suite := range suites {
		km := newDerivedKM()
		outer := encrypt(t, km, plain, &cipher.EncryptOptions{Suite: suite})
		for _, at := range []int{0, 1000, 100_000, 1 << 20, 2 << 20, size - 1} {
			copyTo := func(dst io.Writer, keys cipher.KeySource, src io.Reader) error {
				w, err := cipher.Encrypt(t.Context(), dst, keys, &cipher.EncryptOptions{Suite: suite})
				if err != nil {
					t.Fatal(err)
				}
				defer w.Abort()
				if _, err := io.Copy(w, src); err != nil {
					return err
				}
				return w.Close()
			}
			src := func() io.Reader { return iotest.DataErrReader(bytes.NewReader(plain)) }
			full := &limitedWriter{room: at}
			if err := copyTo(full, km, src()); !errors.Is(err, errFull) || full.Len() != at {
				t.Errorf("%s, room for %d octets: error %v, want %v; %d written", suite, at, err, errFull, full.Len())
			}
			var out bytes.Buffer
			if err := copyTo(&out, km, struct{ io.Reader }{io.MultiReader(bytes.NewReader(plain[:at]), iotest.ErrReader(broken))}); !errors.Is(err, broken) {
				t.Errorf("%s, source that breaks at %d: error %v, want %v", suite, at, err, broken)
			}
			if _, err := decrypt(t, km, out.Bytes(), nil); err == nil {
				t.Errorf("%s, source that breaks at %d: the message is complete", suite, at)
			}

			r, err := cipher.Decrypt(t.Context(), bytes.NewReader(outer), km, unbound())
			if err != nil {
				t.Fatal(err)
			}
			full = &limitedWriter{room: at}
			if n, err := io.Copy(full, r); !errors.Is(err, errFull) || n != int64(at) || !bytes.Equal(full.Bytes(), plain[:at]) {
				t.Errorf("%s, room for %d octets to restore: %d written, error %v", suite, at, n, err)
			}

			altered := bytes.Clone(outer)
			i := 2000 + at*4/3*77/76
			altered[i] ^= 1 // a letter, or a line end
			var got bytes.Buffer
			r, err = cipher.Decrypt(t.Context(), bytes.NewReader(altered), km, unbound())
			if err == nil {
				_, err = io.Copy(&got, r)
			}
			if !errors.Is(err, cipher.ErrAltered) && !errors.Is(err, cipher.ErrDamaged) && !errors.Is(err, cipher.ErrWrongKey) && !errors.Is(err, kmclient.ErrKeyNotFound) {
				t.Errorf("%s, altered at %d: error %v", suite, at, err)
			}
			if !bytes.HasPrefix(plain, got.Bytes()) || got.Len() == len(plain) {
				t.Errorf("%s, altered at %d: %d octets released", suite, at, got.Len())
			}
		}
	}
}

// TestCopyKeepsUp: when a copy ends, all of it is with the writer: nothing goes
// on behind the caller's back.
func TestCopyKeepsUp(t *testing.T) {
	km, plain := newDerivedKM(), benchMessage(5<<20)
	outer := encrypt(t, km, plain, nil)
	r, err := cipher.Decrypt(t.Context(), bytes.NewReader(outer), km, unbound())
	if err != nil {
		t.Fatal(err)
	}
	slow := &slowWriter{}
	if _, err := io.Copy(slow, r); err != nil || slow.n != len(plain) {
		t.Errorf("%d octets written when the copy ends, want %d; error %v", slow.n, len(plain), err)
	}
}

// A slowWriter takes its time.
type slowWriter struct{ n int }

func (w *slowWriter) Write(p []byte) (int, error) {
	time.Sleep(time.Millisecond)
	w.n += len(p)
	return len(p), nil
}

// A writer that writes less and says nothing: io.Copy makes io.ErrShortWrite
// of that.
type shortWriter struct {
	n    int64
	from int64
	size int64
}

func (w *shortWriter) Write(p []byte) (int, error) {
	w.size += int64(len(p))
	if w.size > w.from && len(p) > 10 {
		w.n += int64(len(p) - 10)
		return len(p) - 10, nil
	}
	w.n += int64(len(p))
	return len(p), nil
}

func TestShortWriteTo(t *testing.T) {
	km := newTestKM()
	var b bytes.Buffer
	w, err := cipher.Encrypt(t.Context(), &b, km, nil)
	if err != nil {
		t.Fatal(err)
	}
	const size = 4 << 20
	if _, err := io.Copy(w, strings.NewReader(strings.Repeat("0123456789abcdef", size/16))); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := cipher.Decrypt(t.Context(), &b, km, unbound())
	if err != nil {
		t.Fatal(err)
	}
	dst := &shortWriter{from: 2 << 20}
	n, err := io.Copy(dst, r)
	if err == nil && n != size {
		t.Errorf("io.Copy returns %d of %d octets and no error", n, size)
	}
	t.Log(n, err)
}

func TestShortReadFrom(t *testing.T) {
	const size = 4 << 20
	for name, src := range map[string]func() io.Reader{
		"Write": func() io.Reader { return strings.NewReader(strings.Repeat("0123456789abcdef", size/16)) }, // has WriteTo
		"ReadFrom": func() io.Reader {
			return struct{ io.Reader }{strings.NewReader(strings.Repeat("0123456789abcdef", size/16))}
		},
	} {
		dst := &shortWriter{from: 2 << 20}
		w, err := cipher.Encrypt(t.Context(), dst, newTestKM(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err = io.Copy(w, src()); err == nil {
			err = w.Close()
		}
		if err == nil {
			t.Errorf("%s: octets are missing from the encrypted message, and no error", name)
		}
		w.Abort()
	}
}
