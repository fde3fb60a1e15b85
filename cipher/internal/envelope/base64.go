package envelope

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"

	"github.com/qkdmail/qkdmail/cipher/internal/buffer"
)

// A line of base64 is 76 columns (RFC 2045 §6.8), which hold 57 octets.
const (
	lineOctets  = 57
	lineColumns = 76
	blockLines  = buffer.Size / (lineColumns + len("\r\n"))
)

// A base64Writer encodes in blocks of whole lines: calling an encoder line by
// line costs more than the encoding.
type base64Writer struct {
	dst  io.Writer
	eol  string
	rest []byte // less than a line
	buf  *buffer.Buffer
	used int // octets of buf, at most
}

func newBase64Writer(dst io.Writer, crlf bool) *base64Writer {
	eol := "\n"
	if crlf {
		eol = "\r\n"
	}
	return &base64Writer{dst: dst, eol: eol, rest: make([]byte, 0, lineOctets)}
}

// Write encodes all whole lines that p completes.
func (w *base64Writer) Write(p []byte) (int, error) {
	n := len(p)
	if len(w.rest) > 0 {
		c := copy(w.rest[len(w.rest):lineOctets], p)
		w.rest, p = w.rest[:len(w.rest)+c], p[c:]
		if len(w.rest) < lineOctets {
			return n, nil
		}
	}
	if err := w.encode(w.rest); err != nil {
		return 0, err
	}
	w.rest = w.rest[:0]
	for len(p) >= lineOctets {
		block := p[:min(len(p)/lineOctets, blockLines)*lineOctets]
		if err := w.encode(block); err != nil {
			return 0, err
		}
		p = p[len(block):]
	}
	w.rest = append(w.rest, p...)
	return n, nil
}

// encode writes whole lines, or the last one.
func (w *base64Writer) encode(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	if w.buf == nil {
		w.buf = buffer.Get()
	}
	out := w.buf[:0]
	for len(p) > 0 {
		line := p[:min(len(p), lineOctets)]
		out = base64.StdEncoding.AppendEncode(out, line)
		out = append(out, w.eol...)
		p = p[len(line):]
	}
	w.used = max(w.used, len(out))
	_, err := w.dst.Write(out)
	return err
}

// Close writes the last line. A delimiter brings its own line end before it,
// so none is needed behind; one blank line there does no harm.
func (w *base64Writer) Close() error {
	err := w.encode(w.rest)
	w.rest = w.rest[:0]
	w.buf.Free(w.used)
	w.buf = nil
	return err
}

// A base64Decoder takes base64 apart as strictly as it can be without caring
// for lines: every sequence of octets has one spelling.
type base64Decoder struct {
	quads []byte // not yet decoded; all but what came last is whole quanta
	ended bool   // padding was seen
}

var errBase64 = errors.New("payload is not clean base64")

// add strips line ends (LF, or CRLF) from text and keeps the rest. A CRLF must
// not be cut between two calls.
func (d *base64Decoder) add(text []byte) {
	for len(text) > 0 {
		end := bytes.IndexByte(text, '\n')
		if end < 0 {
			d.quads = append(d.quads, text...)
			return
		}
		line := text[:end]
		if end > 0 && line[end-1] == '\r' {
			line = line[:end-1]
		}
		d.quads = append(d.quads, line...)
		text = text[end+1:]
	}
}

// decode appends to dst what the whole quanta hold.
func (d *base64Decoder) decode(dst []byte) ([]byte, error) {
	n := len(d.quads) / 4 * 4
	if n == 0 {
		return dst, nil
	}
	// encoding/base64 skips CRs wherever they stand.
	if d.ended || bytes.IndexByte(d.quads[:n], '\r') >= 0 {
		return dst, errBase64
	}
	before := len(dst)
	dst, err := base64.StdEncoding.Strict().AppendDecode(dst, d.quads[:n])
	if err != nil {
		return dst[:before], errBase64
	}
	d.ended = len(dst)-before < n/4*3
	d.quads = d.quads[:copy(d.quads, d.quads[n:])]
	return dst, nil
}

// end reports an incomplete quantum at the end.
func (d *base64Decoder) end() error {
	if len(d.quads) > 0 {
		return fmt.Errorf("%w: it is cut short", errBase64)
	}
	return nil
}
