package envelope

import (
	"bytes"
	"crypto/rand"
	"io"
	"strings"
)

// WriterOptions is what stands around the payload.
type WriterOptions struct {
	// Outer are the fields that stand outside, complete and folded, each with
	// its CRLF, US-ASCII or UTF-8, and without the fields that Writer adds
	// itself (Qkdmail-Key-ID, MIME-Version, Content-Type).
	Outer   [][]byte
	Control Control
	Note    string // for whoever sees the message undecrypted; may be empty
	CRLF    bool   // line ends: CRLF, else LF
}

// A Writer writes the payload, base64 in lines of 76 columns, between what
// stands before and after it. The message is complete only after Close; who
// gives it up calls Free.
type Writer struct {
	*base64Writer
	template *template
	values   templateValues
}

// NewWriter begins with all that stands before the payload. It goes to dst, as
// all the rest does, in pieces of 64 KiB or more.
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

// Free gives the buffer back, and ends the Writer. After Close it does nothing.
func (w *Writer) Free() { w.free() }

// outerFields are the fields of the outer message but for those of MIME, with
// room for what follows them.
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
