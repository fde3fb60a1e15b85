package message

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/emersion/go-smtp"
	"github.com/qkdmail/qkdmail/mailer/internal/refusal"
)

// A Checker reads DATA and refuses what SMTP does not allow in it, a bare
// CR or LF above all: mail systems disagree on where such a line ends, and an
// end of data that only some of them see smuggles a second message in.
type Checker struct {
	Src     io.Reader
	MaxLine int   // bytes without CRLF; 0: any
	MaxSize int64 // bytes; 0: any

	size     int64
	line     int  // bytes of the line so far
	last     byte // the byte read last
	crs, lfs int64
	err      error // what Read ends with, for ever: after a refusal nothing is read
}

// ErrDropped is what a reader of DATA returns where the client has gone or was cut
// off. Then it gets no answer.
var ErrDropped = errors.New("the client's connection is gone")

// Refusals of what a message is made of.
func errBareLineEnd() *refusal.Refusal {
	return refusal.New(550, smtp.EnhancedCode{5, 6, 0}, "bare line end", "Bare CR or LF in the message") // RFC 5321 §2.3.8
}

func errNUL() *refusal.Refusal {
	return refusal.New(550, smtp.EnhancedCode{5, 6, 0}, "nul", "NUL in the message") // RFC 5322 §2.2 leaves no room for it
}

func errLongLine() *refusal.Refusal {
	return refusal.New(550, smtp.EnhancedCode{5, 6, 0}, "long line", "Line too long")
}

// TooLarge refuses a message for its size.
func TooLarge() *refusal.Refusal {
	return refusal.New(552, smtp.EnhancedCode{5, 3, 4}, "size", "Message too large")
}

// Size returns how many bytes were read.
func (c *Checker) Size() int64 { return c.size }

// Read reads DATA; the error may be a *refusal.Refusal.
func (c *Checker) Read(p []byte) (int, error) {
	if c.err != nil {
		return 0, c.err
	}
	n, err := c.Src.Read(p)
	if err != nil && err != io.EOF {
		err = Broken(err)
	}
	if r := c.check(p[:n]); r != nil {
		clear(p[:n]) // who wipes it is told of nothing
		n, err = 0, r
	} else if err == io.EOF && c.crs != c.lfs {
		n, err = 0, errBareLineEnd()
	}
	c.err = err
	return n, err
}

// Broken returns what an error of a client's connection is to all that read from it.
// Only its text is kept: go-smtp's word for a connection that was cut is
// io.ErrUnexpectedEOF, which others take for the end of what they read.
func Broken(err error) error {
	var reply *smtp.SMTPError
	var own *refusal.Refusal
	if errors.As(err, &own) || errors.As(err, &reply) || errors.Is(err, ErrDropped) {
		return err
	}
	return fmt.Errorf("%w: %v", ErrDropped, err)
}

// check looks at the next bytes.
func (c *Checker) check(p []byte) *refusal.Refusal {
	if len(p) == 0 {
		return nil
	}
	c.size += int64(len(p))
	if c.MaxSize > 0 && c.size > c.MaxSize {
		return TooLarge()
	}
	if bytes.IndexByte(p, 0) >= 0 {
		return errNUL()
	}
	start := 0
	for {
		i := bytes.IndexByte(p[start:], '\n')
		if i < 0 {
			break
		}
		end := start + i
		before := c.last
		if end > 0 {
			before = p[end-1]
		}
		if before != '\r' {
			return errBareLineEnd()
		}
		if c.MaxLine > 0 && c.line+i-1 > c.MaxLine {
			return errLongLine()
		}
		c.lfs++
		c.line, start = 0, end+1
	}
	// Each LF has its CR. As many CRs as LFs means that no other is there,
	// but for one at the end whose LF may come.
	c.line += len(p) - start
	c.crs += int64(bytes.Count(p, []byte{'\r'}))
	c.last = p[len(p)-1]
	pending := 0
	if c.last == '\r' {
		pending = 1
	}
	if c.MaxLine > 0 && c.line-pending > c.MaxLine {
		return errLongLine()
	}
	if c.crs-c.lfs > int64(pending) {
		return errBareLineEnd()
	}
	return nil
}

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

// A Writer writes a restored message as SMTP can carry it. A message whose
// first line ends with LF alone, and all of whose lines do, goes out with CRLF;
// what has a bare CR or LF otherwise is refused, since the user of a peer must
// not smuggle either.
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
