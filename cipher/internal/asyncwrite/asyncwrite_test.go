package asyncwrite

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"
)

func TestWriter(t *testing.T) {
	for _, total := range []int{0, 1, blockSize - 1, blockSize, blockSize + 1, 2 * blockSize, 5*blockSize + 7} {
		for _, step := range []int{1000, blockSize, 3 * blockSize} {
			t.Run(fmt.Sprintf("%d in %d", total, step), func(t *testing.T) {
				data := make([]byte, total)
				for i := range data {
					data[i] = byte(rand.Uint32())
				}
				var out bytes.Buffer
				w := New(&out)
				for rest := data; len(rest) > 0; rest = rest[min(step, len(rest)):] {
					if n, err := w.Write(rest[:min(step, len(rest))]); err != nil || n != min(step, len(rest)) {
						t.Fatal(n, err)
					}
				}
				if n, err := w.Close(); err != nil || n != int64(total) {
					t.Errorf("Close = %d, %v", n, err)
				}
				if !bytes.Equal(out.Bytes(), data) {
					t.Error("the output differs from the input")
				}
			})
		}
	}
}

// A fullDisk has room for only so many bytes.
type fullDisk struct {
	left int
	err  error
}

func (d *fullDisk) Write(p []byte) (int, error) {
	n := min(d.left, len(p))
	if d.left -= n; n < len(p) {
		return n, d.err
	}
	return n, nil
}

// TestWriteError checks that Close reports the error, even if Write did not, and how
// many bytes were written before it.
func TestWriteError(t *testing.T) {
	for _, room := range []int{0, 1, blockSize, 2*blockSize + 5, 4 * blockSize} {
		disk := &fullDisk{left: room, err: errors.New("disk full")}
		w := New(disk)
		_, werr := io.Copy(w, io.LimitReader(zeros{}, 10*blockSize))
		n, err := w.Close()
		if !errors.Is(werr, disk.err) || !errors.Is(err, disk.err) || n != int64(room) || disk.left != 0 {
			t.Errorf("room for %d bytes: %d written, Write: %v, Close: %v", room, n, werr, err)
		}
		w = New(&fullDisk{left: room, err: disk.err})
		if _, err := w.Write(make([]byte, room+1)); err != nil && !errors.Is(err, disk.err) {
			t.Error(err)
		}
		if n, err := w.Close(); !errors.Is(err, disk.err) || n != int64(room) {
			t.Errorf("room for %d bytes, one too few: %d written, Close: %v", room, n, err)
		}
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// TestWiped checks that a block is wiped before it returns to the pool.
func TestWiped(t *testing.T) {
	w := New(io.Discard)
	if _, err := w.Write(bytes.Repeat([]byte("x"), 1000)); err != nil {
		t.Fatal(err)
	}
	held := w.now.block
	if _, err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if *held != (block{}) {
		t.Error("a block in the pool still holds data")
	}
}
