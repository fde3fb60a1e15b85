package cipher_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/qkdmail/qkdmail/cipher"
)

// TestSharedBuffers encrypts and decrypts many messages at the same time, which reuse
// the same buffers. Some are aborted or refused. At the end it calls every method once
// more.
func TestSharedBuffers(t *testing.T) {
	km := newTestKM()
	var wg sync.WaitGroup
	for seed := range uint64(4) {
		wg.Go(func() {
			random := rand.New(rand.NewPCG(seed, 0))
			for range 60 {
				suite := suites[random.IntN(len(suites))]
				useBuffers(t, km, random, suite)
			}
		})
	}
	wg.Wait()
}

// useBuffers encrypts and decrypts one message.
func useBuffers(t *testing.T, km *testKM, random *rand.Rand, suite cipher.Suite) {
	message := append([]byte("From: a@b.example\n\n"), bytes.Repeat([]byte{byte(random.IntN(256))}, random.IntN(200_000))...)
	var wire bytes.Buffer
	w, err := cipher.Encrypt(t.Context(), &wire, km, forSuite(&cipher.EncryptOptions{Suite: suite}))
	if err != nil {
		t.Error(err)
		return
	}
	if _, err := w.Write(message); err != nil {
		t.Error(err)
	}
	if random.IntN(4) == 0 {
		w.Abort()
		w.Abort()
		if w.Close() == nil {
			t.Error("Close after Abort")
		}
		return
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	w.Abort()
	if _, err := w.Write(message); err == nil {
		t.Error("Write after Close")
	}

	refuse := random.IntN(4) == 0
	r, err := cipher.Decrypt(t.Context(), &wire, km, &cipher.DecryptOptions{Binder: cipher.Unbound, Hybrid: unbound().Hybrid, Accept: func(*cipher.Info) error {
		if refuse {
			return errRefused
		}
		return nil
	}})
	if refuse {
		if !errors.Is(err, errRefused) {
			t.Error(err)
		}
		return
	}
	if err != nil {
		t.Error(err)
		return
	}
	got, err := io.ReadAll(r)
	if err != nil || !bytes.Equal(got, message) {
		t.Errorf("%s: %d bytes came back as %d, %v", suite, len(message), len(got), err)
	}
	if n, err := r.Read(make([]byte, 10)); n != 0 || err != io.EOF {
		t.Errorf("Read after the end: %d, %v", n, err)
	}
}

var errRefused = errors.New("refused")
