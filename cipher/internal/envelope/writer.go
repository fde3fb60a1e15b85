package envelope

import (
	"bytes"
	"crypto/rand"
	"io"
	"strings"
)

// WriterOptions describes what is around the payload.
type WriterOptions struct {
	// Outer are the fields of the outer header, folded, each with its CRLF, in
	// US-ASCII or UTF-8, without those that the Writer adds: Qkdmail-Key-ID,
	// MIME-Version and Content-Type.
	Outer   [][]byte
	Control Control
	Note    string // to people who can't decrypt the message; may be empty
	CRLF    bool   // line ends: CRLF, else LF
}

// A Writer writes a message around the payload that is written to it, which
// becomes base64 in lines of 76 columns. The message is complete only after
// Close. To leave it incomplete, call Free.
type Writer struct {
	*base64Writer
	template *template
	values   templateValues
}

// NewWriter begins a message, up to the payload. All of the message is written
// to dst in pieces of at least 64 KiB, except for the last.
func NewWriter(dst io.Writer, opts WriterOptions) (*Writer, error) {
	if err := opts.Control.Check(); err != nil {
		return nil, err
	}
	t, err := templateFor(opts.Note, opts.CRLF)
	if err != nil {
		return nil, err
	}
	w := &Writer{base64Writer: newBase64Writer(dst, opts.CRLF), template: t}
	w.values = templateValues{
		mixedBoundary:    rand.Text(),
		envelopeBoundary: rand.Text(),
		controlText:      withLineEnds(opts.Control.Text(), opts.CRLF),
	}
	before := t.before.append(outerFields(opts), &w.values)
	if err := w.raw(before); err != nil {
		w.Free()
		return nil, err
	}
	return w, nil
}

// Close ends the payload and the message. It does not close dst.
func (w *Writer) Close() error {
	defer w.Free()
	if err := w.endLine(); err != nil {
		return err
	}
	if err := w.raw(w.template.after.append(nil, &w.values)); err != nil {
		return err
	}
	return w.flush()
}

// Free returns the buffer to its pool and ends the Writer. After Close it does
// nothing.
func (w *Writer) Free() { w.free() }

// outerFields returns the header without its MIME fields, and with capacity for
// what follows.
func outerFields(opts WriterOptions) []byte {
	size := 2 << 10
	for _, f := range opts.Outer {
		size += len(f)
	}
	b := appendField(make([]byte, 0, size), []byte(KeyIDField+": "+opts.Control.KeyID+"\r\n"), opts.CRLF)
	for _, f := range opts.Outer {
		b = appendField(b, f, opts.CRLF)
	}
	return b
}

// appendField appends a field, whose lines end with CRLF.
func appendField(b, field []byte, crlf bool) []byte {
	if crlf {
		return append(b, field...)
	}
	for line := range bytes.Lines(field) {
		b = append(append(b, bytes.TrimSuffix(line, []byte("\r\n"))...), '\n')
	}
	return b
}

func withLineEnds(text string, crlf bool) string {
	text = strings.ReplaceAll(text, "\r\n", "\n")
	if crlf {
		text = strings.ReplaceAll(text, "\n", "\r\n")
	}
	return text
}
