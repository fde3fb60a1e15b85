package cipher

import (
	"io"
	"runtime"
	"sync"

	"github.com/qkdmail/qkdmail/cipher/internal/asyncwrite"
)

// asyncFrom is how many bytes io.Copy writes in the caller's goroutine before it starts
// another, which pays off only for long messages.
const asyncFrom = 1 << 20

// readBlock is the size of a read, in bytes: several chunks or frames, which are
// encrypted straight from the block.
const readBlock = 256 << 10

var readBlocks = sync.Pool{New: func() any { return new([readBlock]byte) }}

// ReadFrom encrypts all of src, for [io.Copy]. After the first MiB and with more than
// one processor, another goroutine writes to dst while this one reads and encrypts; it
// ends before ReadFrom returns. After an error, including one from src, call Abort.
func (w *Writer) ReadFrom(src io.Reader) (n int64, err error) {
	block := readBlocks.Get().(*[readBlock]byte)
	used := 0
	defer func() {
		clear(block[:used])
		readBlocks.Put(block)
		if cerr := w.endAsync(); err == nil {
			err = cerr
		}
	}()
	for {
		m, rerr := src.Read(block[:])
		used = max(used, m)
		n += int64(m)
		if n > asyncFrom {
			w.startAsync()
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

// startAsync has another goroutine write to dst.
func (w *Writer) startAsync() {
	if w.async == nil && w.err == nil && runtime.GOMAXPROCS(0) > 1 {
		w.async = asyncwrite.New(w.dst)
	}
}

// endAsync waits for that goroutine to end, if there is one.
func (w *Writer) endAsync() error {
	if w.async == nil {
		return nil
	}
	_, err := w.async.Close()
	w.async = nil
	if w.err == nil {
		w.err = err
	}
	return w.fail()
}

// A sink writes the encrypted message to dst, directly or through that goroutine.
type sink struct{ w *Writer }

func (s sink) Write(p []byte) (int, error) {
	if s.w.async != nil {
		return s.w.async.Write(p)
	}
	return s.w.dst.Write(p)
}

// WriteTo writes the restored message to dst, for [io.Copy]. After the first MiB
// and with more than one processor, another goroutine writes to dst while this
// one reads and decrypts; it ends before WriteTo returns. The errors are those
// of Read and of dst.
func (r *Reader) WriteTo(dst io.Writer) (n int64, err error) {
	var async *asyncwrite.Writer
	defer func() {
		if async != nil {
			m, aerr := async.Close()
			n += m
			if err == nil {
				err = aerr
			}
		}
	}()
	for {
		if err := r.next(); err == io.EOF {
			return n, nil
		} else if err != nil {
			return n, err
		}
		if async == nil && n >= asyncFrom && runtime.GOMAXPROCS(0) > 1 {
			async = asyncwrite.New(dst)
			dst = async
		}
		m, err := dst.Write(r.plain)
		r.release(m)
		if async == nil {
			n += int64(m)
		}
		if err != nil {
			return n, err
		}
	}
}
