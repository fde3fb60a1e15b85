package cipher

import (
	"io"
	"runtime"
	"sync"

	"github.com/qkdmail/qkdmail/cipher/internal/behind"
)

// behindFrom is how much of a message is written in the goroutine of the
// caller, in octets: a goroutine more is worth its price for longer ones.
const behindFrom = 1 << 20

// readBlock is how much is read at a time, in octets: some chunks or frames,
// which are then encrypted from there.
const readBlock = 256 << 10

var readBlocks = sync.Pool{New: func() any { return new([readBlock]byte) }}

// ReadFrom encrypts all that src has, as [io.Copy] to the Writer does. What
// comes behind the first MiB is written in another goroutine, if there is a
// processor for it, while more is read and encrypted; it ends before ReadFrom
// returns. After an error, that of src included, call Abort.
func (w *Writer) ReadFrom(src io.Reader) (n int64, err error) {
	block := readBlocks.Get().(*[readBlock]byte)
	used := 0
	defer func() {
		clear(block[:used])
		readBlocks.Put(block)
		if cerr := w.writeInTurn(); err == nil {
			err = cerr
		}
	}()
	for {
		m, rerr := src.Read(block[:])
		used = max(used, m)
		n += int64(m)
		if n > behindFrom {
			w.writeBehind()
		}
		if _, err := w.Write(block[:m]); err != nil {
			return n, err
		}
		if rerr == io.EOF {
			return n, nil
		}
		if rerr != nil {
			return n, rerr
		}
	}
}

// writeBehind lets another goroutine write to dst.
func (w *Writer) writeBehind() {
	if w.behind == nil && w.err == nil && runtime.GOMAXPROCS(0) > 1 {
		w.behind = behind.New(w.dst)
	}
}

// writeInTurn waits for that goroutine, and goes on without it.
func (w *Writer) writeInTurn() error {
	if w.behind == nil {
		return nil
	}
	_, err := w.behind.Close()
	w.behind = nil
	if w.err == nil {
		w.err = err
	}
	return w.fail()
}

// A sink is where the encrypted message goes at present.
type sink struct{ w *Writer }

func (s sink) Write(p []byte) (int, error) {
	if s.w.behind != nil {
		return s.w.behind.Write(p)
	}
	return s.w.dst.Write(p)
}

// WriteTo writes the restored message to dst, as [io.Copy] from the Reader
// does. What comes behind the first MiB is written in another goroutine, if
// there is a processor for it, while more is read and decrypted; it ends before
// WriteTo returns. The errors are those of Read and of dst.
func (r *Reader) WriteTo(dst io.Writer) (n int64, err error) {
	var b *behind.Writer
	defer func() {
		if b != nil {
			m, berr := b.Close()
			n += m
			if err == nil {
				err = berr
			}
		}
	}()
	for {
		if err := r.next(); err == io.EOF {
			return n, nil
		} else if err != nil {
			return n, err
		}
		if b == nil && n >= behindFrom && runtime.GOMAXPROCS(0) > 1 {
			b = behind.New(dst)
			dst = b
		}
		m, err := dst.Write(r.plain)
		r.release(m)
		if b == nil {
			n += int64(m)
		}
		if err != nil {
			return n, err
		}
	}
}
