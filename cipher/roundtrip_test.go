package cipher_test

import (
	"bytes"
	"cmp"
	"io"
	"testing"

	"github.com/qkdmail/qkdmail/cipher"
)

// encryptTo encrypts a whole message to dst. After an error it calls Abort.
func encryptTo(t testing.TB, dst io.Writer, km cipher.KeySource, plain []byte, opts *cipher.EncryptOptions) (*cipher.Info, error) {
	t.Helper()
	w, err := cipher.Encrypt(t.Context(), dst, km, forSuite(opts))
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	if _, err := w.Write(plain); err != nil {
		return w.Info(), err
	}
	return w.Info(), w.Close()
}

// encrypt encrypts a whole message.
func encrypt(t testing.TB, km cipher.KeySource, plain []byte, opts *cipher.EncryptOptions) []byte {
	t.Helper()
	var out bytes.Buffer
	if _, err := encryptTo(t, &out, km, plain, opts); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// unbound returns options that bind no key.
func unbound() *cipher.DecryptOptions {
	return &cipher.DecryptOptions{Binder: cipher.Unbound, Hybrid: []*cipher.HybridPrivateKey{hybridKey()}}
}

// decrypt restores a message. With an error it also returns what was released before.
// The Binder in opts may be nil: then no key is bound. If Hybrid is empty, it uses
// hybridKey.
func decrypt(t testing.TB, km cipher.KeyFinder, outer []byte, opts *cipher.DecryptOptions) ([]byte, error) {
	t.Helper()
	with := unbound()
	if opts != nil {
		*with = *opts
	}
	with.Binder = cmp.Or(with.Binder, cipher.Unbound)
	if with.Hybrid == nil {
		with.Hybrid = unbound().Hybrid
	}
	r, err := cipher.Decrypt(t.Context(), bytes.NewReader(outer), km, with)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}

// infoOf inspects a message.
func infoOf(t *testing.T, outer []byte) *cipher.Info {
	t.Helper()
	info, err := cipher.Inspect(bytes.NewReader(outer))
	if err != nil {
		t.Fatal(err)
	}
	return info
}
