package cipher_test

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/qkdmail/qkdmail/cipher"
)

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
	km := newTestKM(t)
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
		w, err := cipher.Encrypt(t.Context(), dst, newTestKM(t), nil)
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
