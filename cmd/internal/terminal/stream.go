package terminal

import (
	"context"
	"io"
	"os"
)

// Opening, reading or writing a pipe, a terminal or another device can block forever,
// and the operating system can't interrupt it. The functions here return when their
// context ends, and leave the blocked call in a goroutine that ends with the program.

// Await returns the results of do, or the error of ctx if that ends first.
func Await[T any](ctx context.Context, do func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		value, err := do()
		done <- result{value, err}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		var none T
		return none, ctx.Err()
	}
}

// neverWaits reports whether reading and writing f never blocks on another process.
func neverWaits(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && (info.Mode().IsRegular() || info.IsDir())
}

// reading returns a reader of f that ends with ctx.
func reading(ctx context.Context, f *os.File) io.Reader {
	if neverWaits(f) {
		return f
	}
	pr, pw := io.Pipe()
	go func() {
		_, err := io.CopyBuffer(pw, struct{ io.Reader }{f}, make([]byte, 256<<10))
		_ = pw.CloseWithError(err)
	}()
	context.AfterFunc(ctx, func() { _ = pw.CloseWithError(ctx.Err()) })
	return pr
}

// writing returns a writer to f that ends with ctx. Write returns when f has all the
// data.
func writing(ctx context.Context, f *os.File) io.Writer {
	if neverWaits(f) {
		return f
	}
	return &waitingWriter{ctx: ctx, f: f}
}

type waitingWriter struct {
	ctx context.Context
	f   *os.File
	buf []byte // a copy, because callers wipe their data and a write may be left behind
}

func (w *waitingWriter) Write(p []byte) (int, error) {
	if err := w.ctx.Err(); err != nil {
		return 0, err // an abandoned write may still use buf
	}
	w.buf = append(w.buf[:0], p...)
	return Await(w.ctx, func() (int, error) { return w.f.Write(w.buf) })
}
