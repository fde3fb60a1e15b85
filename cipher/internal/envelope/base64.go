package envelope

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/qkdmail/qkdmail/cipher/internal/buffer"
	"github.com/segmentio/asm/base64"
)

// A line of base64 has 76 columns (RFC 2045 §6.8), which hold 57 bytes.
const (
	lineBytes   = 57
	lineColumns = 76
)

// strictBase64 gives the same results as encoding/base64, and is many times faster on
// long input if the processor has the instructions. Strict: padding bits must be zero.
var strictBase64 = base64.StdEncoding.Strict()

// flushSize is how many bytes of text are worth a write.
const flushSize = 64 << 10

// A base64Writer encodes blocks of whole lines and writes large pieces: calling an
// encoder line by line costs more than the encoding.
type base64Writer struct {
	dst  io.Writer
	eol  string
	line [lineBytes]byte
	held int // bytes of line
	text *buffer.Text
	out  []byte // in text, not yet written
}

func newBase64Writer(dst io.Writer, crlf bool) *base64Writer {
	w := &base64Writer{dst: dst, eol: "\n", text: buffer.GetText()}
	if crlf {
		w.eol = "\r\n"
	}
	w.out = w.text[:0]
	return w
}

// raw writes text that is not base64.
func (w *base64Writer) raw(b []byte) error {
	if len(b) > cap(w.out)-len(w.out) {
		if err := w.flush(); err != nil {
			return err
		}
		if len(b) > cap(w.out) {
			_, err := w.dst.Write(b)
			return err
		}
	}
	w.out = append(w.out, b...)
	return nil
}

// Write encodes all whole lines that p completes.
func (w *base64Writer) Write(p []byte) (n int, err error) {
	n = len(p)
	if w.held > 0 {
		c := copy(w.line[w.held:], p)
		w.held, p = w.held+c, p[c:]
		if w.held < lineBytes {
			return n, nil
		}
		if err := w.encode(w.line[:]); err != nil {
			return 0, err
		}
	}
	whole := len(p) / lineBytes * lineBytes
	if err := w.encode(p[:whole]); err != nil {
		return 0, err
	}
	w.held = copy(w.line[:], p[whole:])
	if len(w.out) >= flushSize {
		return n, w.flush()
	}
	return n, nil
}

// encode appends lines to out. The last one may be short.
func (w *base64Writer) encode(p []byte) error {
	for len(p) > 0 {
		lines := (cap(w.out) - len(w.out)) / (lineColumns + len(w.eol))
		if lines == 0 {
			if err := w.flush(); err != nil {
				return err
			}
			continue
		}
		n := min(lines*lineBytes, len(p))
		w.out = appendLines(w.out, p[:n], w.eol)
		p = p[n:]
	}
	return nil
}

// appendLines appends p in lines of base64, each with its line end, to out,
// which must have room for them. It encodes p at once, to the end of that room,
// and then moves each line forward to its place.
func appendLines(out, p []byte, eol string) []byte {
	size := base64.StdEncoding.EncodedLen(len(p))
	lines := (size + lineColumns - 1) / lineColumns
	end := len(out) + size + lines*len(eol)
	dense := out[end-size : end]
	base64.StdEncoding.Encode(dense, p)
	for len(dense) > 0 {
		n := min(lineColumns, len(dense))
		out = append(out, dense[:n]...)
		out = append(out, eol...)
		dense = dense[n:]
	}
	return out
}

// PayloadText returns the size in bytes of a payload of n bytes as text: base64
// in lines that end with CRLF.
func PayloadText(n int64) int64 {
	lines := (n + lineBytes - 1) / lineBytes
	return (n+2)/3*4 + 2*lines
}

// flush writes the text, if there is any.
func (w *base64Writer) flush() error {
	if w.text == nil {
		return errClosed
	}
	if len(w.out) == 0 {
		return nil
	}
	n, err := w.dst.Write(w.out)
	if err == nil && n < len(w.out) {
		err = io.ErrShortWrite
	}
	w.out = w.out[:0]
	return err
}

var errClosed = errors.New("write after close")

// endLine encodes what is left as the last line. Its line end is not needed, since
// a delimiter begins with one, but the blank line does no harm.
func (w *base64Writer) endLine() error {
	err := w.encode(w.line[:w.held])
	w.held = 0
	return err
}

// free returns the buffer to its pool. Text that is not yet written is lost.
func (w *base64Writer) free() {
	w.text.Free()
	w.text, w.out = nil, nil
}

// A base64Decoder decodes strictly: apart from line ends, a sequence of bytes has
// one spelling only.
type base64Decoder struct {
	quads []byte // not yet decoded
	ended bool   // after padding
}

var errBase64 = errors.New("payload is not clean base64")

// decode decodes text into dst, which must have room for it, up to the last whole
// quantum. A CRLF must not be split between two calls.
//
// Searching for each line end takes as long as decoding. So decode first assumes that
// each line is as long as the one before it, if there is a line end in that place. Only
// if the result is not clean base64 does it search for every line end.
func (d *base64Decoder) decode(dst, text []byte) (n int, err error) {
	before := d.quads
	for _, guess := range []bool{true, false} {
		d.quads = appendText(before, text, guess)
		if n, err = d.decodeQuads(dst); err == nil {
			return n, nil
		}
	}
	return 0, err
}

// appendText appends text without its line ends (LF or CRLF) to quads. With guess set,
// it may leave some line ends in if lines differ in length.
func appendText(quads, text []byte, guess bool) []byte {
	for line, eol := 0, 0; len(text) > 0; text = text[line+eol:] {
		next := line + eol
		if !guess || next == 0 || next > len(text) || text[next-1] != '\n' || eol == 2 && text[line] != '\r' {
			end := bytes.IndexByte(text, '\n')
			if end < 0 {
				return append(quads, text...)
			}
			line, eol = end, 1
			if end > 0 && text[end-1] == '\r' {
				line, eol = end-1, 2
			}
		}
		quads = append(quads, text[:line]...)
	}
	return quads
}

// decodeQuads decodes whole quanta and keeps the rest.
func (d *base64Decoder) decodeQuads(dst []byte) (int, error) {
	whole := len(d.quads) / 4 * 4
	rest := d.quads[whole:]
	if bytes.ContainsAny(rest, "\r\n") || d.ended && whole > 0 {
		return 0, errBase64
	}
	if whole == 0 {
		return 0, nil
	}
	padding := 0
	for padding < 2 && d.quads[whole-1-padding] == '=' {
		padding++
	}
	n, err := strictBase64.Decode(dst, d.quads[:whole])
	// encoding/base64 skips line ends, and then decodes fewer bytes.
	if err != nil || n != whole/4*3-padding {
		return 0, errBase64
	}
	d.ended = padding > 0
	d.quads = d.quads[:copy(d.quads, rest)]
	return n, nil
}

// end reports an incomplete quantum at the end of the payload.
func (d *base64Decoder) end() error {
	if len(d.quads) > 0 {
		return fmt.Errorf("%w: it is cut short", errBase64)
	}
	return nil
}
