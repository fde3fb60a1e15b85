// Package asyncwrite writes in a separate goroutine, so that another processor can make
// the next block while one is being written.
package asyncwrite

import (
	"io"
	"sync"
)

// blockSize is the size of a write, in bytes. Each write wakes the goroutine on
// another processor: with 128 KiB, waking it cost as much time as it saved.
const blockSize = 512 << 10

type block [blockSize]byte

var blocks = sync.Pool{New: func() any { return new(block) }}

// A Writer fills one of two blocks while the other is being written. An error from the
// underlying writer is reported one block later.
type Writer struct {
	work    chan piece
	back    chan piece
	now     piece // being filled; its block is nil if there is none
	written int64
}

// A piece is a block and what it holds.
type piece struct {
	block *block
	n     int   // bytes to write; after the write, bytes written
	used  int   // bytes of block that ever held something
	err   error // of this write, or of an earlier one
}

// New returns a Writer to dst. The caller must not use dst until Close has
// returned.
func New(dst io.Writer) *Writer {
	w := &Writer{work: make(chan piece, 1), back: make(chan piece, 2)}
	for range cap(w.back) {
		w.back <- piece{block: blocks.Get().(*block)}
	}
	go w.run(dst)
	return w
}

func (w *Writer) run(dst io.Writer) {
	defer close(w.back)
	var err error
	for p := range w.work {
		if err == nil {
			want := p.n
			if p.n, err = dst.Write(p.block[:want]); err == nil && p.n < want {
				err = io.ErrShortWrite
			}
		} else {
			p.n = 0
		}
		p.err = err
		w.back <- p
	}
}

// Write copies b. Its error is that of writing an earlier block, and is final.
func (w *Writer) Write(b []byte) (n int, err error) {
	for len(b) > 0 {
		if w.now.block == nil {
			w.now = <-w.back
			w.written += int64(w.now.n)
			w.now.n = 0
		}
		if w.now.err != nil {
			return n, w.now.err
		}
		c := copy(w.now.block[w.now.n:], b)
		w.now.n += c
		w.now.used = max(w.now.used, w.now.n)
		n, b = n+c, b[c:]
		if w.now.n == blockSize {
			w.work <- w.now
			w.now = piece{}
		}
	}
	return n, nil
}

// Close waits until everything is written. It returns how many bytes were
// written, and the error of the underlying writer.
func (w *Writer) Close() (written int64, err error) {
	if w.now.block != nil {
		if w.now.err == nil {
			w.work <- w.now
		} else {
			err = w.now.err
			w.now.free()
		}
	}
	close(w.work)
	for p := range w.back {
		w.written += int64(p.n)
		if err == nil {
			err = p.err
		}
		p.free()
	}
	return w.written, err
}

// free wipes the block, which may have held plaintext, and returns it to the
// pool.
func (p piece) free() {
	clear(p.block[:p.used])
	blocks.Put(p.block)
}
