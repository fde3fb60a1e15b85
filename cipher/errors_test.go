package cipher_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"testing/iotest"

	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/kmclient"
)

// TestOwnErrors checks that errors of key managers and contexts are passed on.
func TestOwnErrors(t *testing.T) {
	fail := errors.New("no line")
	if _, err := encryptTo(t, io.Discard, failingKM{fail}, nil, nil); !errors.Is(err, fail) {
		t.Errorf("Close = %v, want %v", err, fail)
	}
	outer := encrypt(t, newTestKM(), []byte(shortMessage), nil)
	if _, err := decrypt(t, failingKM{fail}, outer, nil); !errors.Is(err, fail) {
		t.Errorf("Decrypt = %v, want %v", err, fail)
	}
	ctx, cancel := context.WithCancel(t.Context())
	w, err := cipher.Encrypt(ctx, io.Discard, newTestKM(), nil)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := w.Write([]byte("x")); !errors.Is(err, context.Canceled) {
		t.Errorf("Write after cancel = %v", err)
	}
	if err := w.Close(); !errors.Is(err, context.Canceled) {
		t.Errorf("Close after cancel = %v", err)
	}
}

// TestForeignEOF checks that an io.EOF or io.ErrUnexpectedEOF from a key manager or a
// source is not taken for the end of the message.
func TestForeignEOF(t *testing.T) {
	km := newTestKM()
	plain := bytes.Repeat([]byte("x\n"), 200_000)
	outer := encrypt(t, km, plain, &cipher.EncryptOptions{Suite: cipher.SuiteOTP})
	for _, fail := range []error{io.EOF, io.ErrUnexpectedEOF} {
		got, err := decrypt(t, &failingLater{testKM: km, left: 2, err: fail}, outer, nil)
		if !errors.Is(err, fail) || len(got) == len(plain) {
			t.Errorf("%v at the third frame: %d of %d bytes, error %v", fail, len(got), len(plain), err)
		}
	}
	for _, suite := range suites {
		outer := encrypt(t, km, plain, &cipher.EncryptOptions{Suite: suite})
		for _, n := range []int{100, 1500, 2000, len(outer) / 2, len(outer) - 100} {
			r, err := cipher.Decrypt(t.Context(), io.MultiReader(bytes.NewReader(outer[:n]), iotest.ErrReader(io.ErrUnexpectedEOF)), km, unbound())
			if err == nil {
				_, err = io.Copy(io.Discard, r)
			}
			if !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("%s, cut after %d bytes: error %v, want %v", suite, n, err, io.ErrUnexpectedEOF)
			}
		}
	}
}

// failingLater finds keys left times, then fails.
type failingLater struct {
	*testKM
	left int
	err  error
}

func (f *failingLater) KeysByID(ctx context.Context, peer string, ids ...string) ([]*kmclient.Key, error) {
	if f.left--; f.left < 0 {
		return nil, f.err
	}
	return f.testKM.KeysByID(ctx, peer, ids...)
}
