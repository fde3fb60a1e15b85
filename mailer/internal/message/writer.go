package message

import (
	"bytes"
	"encoding/binary"
	"io"

	"github.com/emersion/go-smtp"
	"github.com/qkdmail/qkdmail/mailer/internal/refusal"
)

// HasEightBit reports whether a byte is not ASCII.
func HasEightBit(p []byte) bool {
	for ; len(p) >= 8; p = p[8:] {
		if binary.NativeEndian.Uint64(p)&0x8080808080808080 != 0 {
			return true
		}
	}
	for _, c := range p {
		if c >= 0x80 {
			return true
		}
	}
	return false
}

// A Writer writes a restored message as SMTP can carry it. If all lines of a message end
// with LF, it goes out with CRLF. Any other bare CR or LF is refused: the users of a peer
// must not smuggle mail either.
type Writer struct {
	dst   io.Writer
	lf    bool
	check Checker
	out   []byte
}

// NewWriter returns a writer for a message that begins with start.
func NewWriter(dst io.Writer, start []byte) *Writer {
	i := bytes.IndexByte(start, '\n')
	return &Writer{dst: dst, lf: i == 0 || i > 0 && start[i-1] != '\r'}
}

// LF reports whether the message has lines that end with LF alone.
func (w *Writer) LF() bool { return w.lf }

// SevenBit returns a writer that refuses 8-bit content, which the next hop does not
// take.
func SevenBit(dst io.Writer) io.Writer { return sevenBitWriter{dst} }

type sevenBitWriter struct{ dst io.Writer }

func (w sevenBitWriter) Write(p []byte) (int, error) {
	if HasEightBit(p) {
		return 0, errEightBit()
	}
	return w.dst.Write(p)
}

func errEightBit() *refusal.Refusal {
	return refusal.New(554, smtp.EnhancedCode{5, 6, 3}, "8bit", "The next hop takes no 8-bit content") // RFC 6152 §3
}

// Write writes a part of the message.
func (w *Writer) Write(p []byte) (int, error) {
	n := len(p)
	if w.lf {
		if bytes.IndexByte(p, '\r') >= 0 {
			return 0, errBareLineEnd()
		}
		w.out = append(w.out[:0], bytes.ReplaceAll(p, []byte("\n"), []byte("\r\n"))...)
		p = w.out
	}
	if r := w.check.check(p); r != nil {
		return 0, r
	}
	if _, err := w.dst.Write(p); err != nil {
		return 0, err
	}
	return n, nil
}

// Close refuses a message that ends with a bare CR.
func (w *Writer) Close() error {
	if w.check.crs != w.check.lfs {
		return errBareLineEnd()
	}
	return nil
}
