// Package suitetest has what the tests of all suites need.
package suitetest

import (
	"crypto/rand"
	"fmt"
	"io"
	"slices"
	"testing"
)

// Random returns n random bytes.
func Random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return b
}

// Write writes plain in pieces of size bytes and closes w.
func Write(t testing.TB, w io.WriteCloser, plain []byte, size int) {
	t.Helper()
	for piece := range slices.Chunk(plain, size) {
		if n, err := w.Write(piece); n != len(piece) || err != nil {
			t.Fatalf("Write of %d bytes = %d, %v", len(piece), n, err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

// ReadAll calls next until it returns an error, and returns all plaintext. If the
// error is not io.EOF, it is returned with the plaintext before it.
func ReadAll(next func() ([]byte, error)) (plain []byte, err error) {
	for {
		piece, err := next()
		if err == io.EOF {
			return plain, nil
		}
		if err != nil && len(piece) > 0 {
			return piece, fmt.Errorf("%d bytes with the error %w", len(piece), err)
		}
		if err != nil {
			return plain, err
		}
		plain = append(plain, piece...)
	}
}
