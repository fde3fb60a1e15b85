package cipher_test

import (
	"bytes"
	"context"
	"crypto/aes"
	stdcipher "crypto/cipher"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/kmclient"
	//lint:ignore SA1019 what the OTP suite is measured against
	"golang.org/x/crypto/poly1305"
)

var benchSizes = []struct {
	name  string
	bytes int
}{{"4KiB", 4 << 10}, {"64KiB", 64 << 10}, {"1MiB", 1 << 20}, {"25MiB", 25 << 20}, {"100MiB", 100 << 20}}

func benchMessage(size int) []byte {
	return append([]byte("From: a@example.org\nTo: b@example.net\nSubject: s\n\n"), make([]byte, size)...)
}

func BenchmarkEncrypt(b *testing.B) {
	for _, suite := range suites {
		for _, size := range benchSizes {
			b.Run(fmt.Sprintf("%s/%s", suite, size.name), func(b *testing.B) {
				plain, km := benchMessage(size.bytes), newDerivedKM()
				b.SetBytes(int64(len(plain)))
				b.ReportAllocs()
				for b.Loop() {
					benchEncrypt(b, io.Discard, km, suite, plain)
				}
			})
		}
	}
}

func benchEncrypt(b testing.TB, dst io.Writer, km cipher.KeySource, suite cipher.Suite, plain []byte) {
	if _, err := encryptTo(b, dst, km, plain, &cipher.EncryptOptions{Suite: suite}); err != nil {
		b.Fatal(err)
	}
}

func BenchmarkDecrypt(b *testing.B) {
	for _, suite := range suites {
		for _, size := range benchSizes {
			b.Run(fmt.Sprintf("%s/%s", suite, size.name), func(b *testing.B) {
				plain, km := benchMessage(size.bytes), newDerivedKM()
				outer := encrypt(b, km, plain, &cipher.EncryptOptions{Suite: suite})
				b.SetBytes(int64(len(plain)))
				b.ReportAllocs()
				for b.Loop() {
					benchDecrypt(b, km, outer)
				}
			})
		}
	}
}

func benchDecrypt(b testing.TB, km cipher.KeyFinder, outer []byte) {
	r, err := cipher.Decrypt(b.Context(), bytes.NewReader(outer), km, unbound())
	if err != nil {
		b.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, r); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkFile encrypts and decrypts from file to file. A second processor helps here:
// compare with GOMAXPROCS=1.
func BenchmarkFile(b *testing.B) {
	const size = 64 << 20
	km, dir := newDerivedKM(), b.TempDir()
	plain, outer := filepath.Join(dir, "plain"), filepath.Join(dir, "outer")
	if err := os.WriteFile(plain, benchMessage(size), 0o600); err != nil {
		b.Fatal(err)
	}
	encryptFile := func(dst, src *os.File) error {
		w, err := cipher.Encrypt(b.Context(), dst, km, nil)
		if err != nil {
			return err
		}
		defer w.Abort()
		if _, err := io.Copy(w, src); err != nil {
			return err
		}
		return w.Close()
	}
	decryptFile := func(dst, src *os.File) error {
		r, err := cipher.Decrypt(b.Context(), src, km, unbound())
		if err != nil {
			return err
		}
		_, err = io.Copy(dst, r)
		return err
	}
	fromTo(b, plain, outer, encryptFile)
	b.Run("encrypt", func(b *testing.B) {
		b.SetBytes(size)
		for b.Loop() {
			fromTo(b, plain, outer, encryptFile)
		}
	})
	b.Run("decrypt", func(b *testing.B) {
		b.SetBytes(size)
		for b.Loop() {
			fromTo(b, outer, filepath.Join(dir, "restored"), decryptFile)
		}
	})
}

func fromTo(b *testing.B, from, to string, do func(dst, src *os.File) error) {
	src, err := os.Open(from)
	if err != nil {
		b.Fatal(err)
	}
	defer src.Close()
	dst, err := os.Create(to)
	if err != nil {
		b.Fatal(err)
	}
	if err := errors.Join(do(dst, src), dst.Close()); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkShare reports the speed of encryption and decryption as a share of the speed
// of the primitive alone: AES-256-GCM or Poly1305. They take turns, so that a busy
// machine disturbs both, and the share is the median of all turns. The key manager's
// time does not count.
func BenchmarkShare(b *testing.B) {
	const size = 2 << 20 // short, so that most turns are not disturbed
	plain := benchMessage(size)
	for suite, alone := range map[cipher.Suite]struct {
		metric string
		run    func([]byte)
	}{
		cipher.SuiteAES256GCM: {"of-gcm", sealAlone()},
		cipher.SuiteOTP:       {"of-poly1305", tagAlone},
	} {
		km := &timedKM{derivedKM: newDerivedKM()}
		outer := encrypt(b, km, plain, &cipher.EncryptOptions{Suite: suite})
		for name, whole := range map[string]func(){
			"encrypt": func() { benchEncrypt(b, io.Discard, km, suite, plain) },
			"decrypt": func() { benchDecrypt(b, km, outer) },
		} {
			b.Run(fmt.Sprintf("%s/%s", suite, name), func(b *testing.B) {
				var shares []float64
				for b.Loop() {
					start := time.Now()
					alone.run(plain)
					mid := time.Now()
					km.spent = 0
					whole()
					shares = append(shares, float64(mid.Sub(start))/float64(time.Since(mid)-km.spent))
				}
				slices.Sort(shares)
				b.ReportMetric(shares[len(shares)/2], alone.metric)
			})
		}
	}
}

// A timedKM measures the time that the key manager takes.
type timedKM struct {
	*derivedKM
	spent time.Duration
}

func (km *timedKM) GetKeys(ctx context.Context, peer string, size, number int) ([]*kmclient.Key, error) {
	defer func(start time.Time) { km.spent += time.Since(start) }(time.Now())
	return km.derivedKM.GetKeys(ctx, peer, size, number)
}

func (km *timedKM) KeysByID(ctx context.Context, peer string, ids ...string) ([]*kmclient.Key, error) {
	defer func(start time.Time) { km.spent += time.Since(start) }(time.Now())
	return km.derivedKM.KeysByID(ctx, peer, ids...)
}

// sealAlone returns a function that seals a message in chunks and discards them.
func sealAlone() func([]byte) {
	block, err := aes.NewCipher(make([]byte, 32))
	if err != nil {
		panic(err)
	}
	aead, err := stdcipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	out, nonce := make([]byte, 0, 65536+16), make([]byte, 12)
	return func(plain []byte) {
		for chunk := range slices.Chunk(plain, 65536) {
			_ = aead.Seal(out, nonce, chunk, nil)
		}
	}
}

// tagAlone authenticates a message in frames and discards the tags.
func tagAlone(plain []byte) {
	var key [32]byte
	var tag [16]byte
	for frame := range slices.Chunk(plain, 65536) {
		poly1305.Sum(&tag, frame, &key)
	}
}
