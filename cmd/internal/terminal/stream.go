package terminal

import (
	"context"
	"io"
	"os"
)

// A read, a write or an open of a pipe, a terminal or another device can wait for
// ever, and the operating system offers no way to end it. What is here lets the
// program go on when its context ends: the call is left behind, in a goroutine
// that ends with the program.

// await returns what do returns, or the error of ctx if that ends first.
func await[T any](ctx context.Context, do func() (T, error)) (T, error) {
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

// neverWaits reports whether reading and writing f can't wait for somebody else.
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

// writing returns a writer to f that ends with ctx. When Write returns, f has
// all of it.
func writing(ctx context.Context, f *os.File) io.Writer {
	if neverWaits(f) {
		return f
	}
	return &waitingWriter{ctx: ctx, f: f}
}

type waitingWriter struct {
	ctx context.Context
	f   *os.File
	buf []byte // of the write that may be left behind, since the caller wipes its own
}

func (w *waitingWriter) Write(p []byte) (int, error) {
	if err := w.ctx.Err(); err != nil {
		return 0, err // buf may be in use
	}
	w.buf = append(w.buf[:0], p...)
	return await(w.ctx, func() (int, error) { return w.f.Write(w.buf) })
}
