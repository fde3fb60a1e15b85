// Package behind writes in a goroutine of its own, so that a second core makes
// what is written next meanwhile.
package behind

import (
	"io"
	"sync"
)

// size of a write, in octets. Each costs the waking of the other goroutine, on
// another processor: with 128 KiB that took the time that the second one saved.
const size = 512 << 10

type block [size]byte

var blocks = sync.Pool{New: func() any { return new(block) }}

// A Writer takes what is written to it into one of two blocks, while the other
// one is on its way. An error of the underlying writer comes a block later.
type Writer struct {
	work    chan piece
	back    chan piece
	now     piece // what is filled at present; without a block if none is
	written int64
}

// A piece is a block with what it holds.
type piece struct {
	block *block
	n     int   // octets of block; when it comes back those that were written
	used  int   // octets of block that ever held something
	err   error // why they, or those before them, were not
}

// New returns a Writer to dst, which belongs to it until Close has returned.
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

// Write returns what dst has returned for what was written before, if that is
// an error. It is final.
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
		if w.now.n == size {
			w.work <- w.now
			w.now = piece{}
		}
	}
	return n, nil
}

// Close waits until all is written. It returns how many octets were, and the
// error of the underlying writer.
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

// free wipes the block, which may have held mail in clear, and gives it back.
func (p piece) free() {
	clear(p.block[:p.used])
	blocks.Put(p.block)
}
