package mailer

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/emersion/go-smtp"
)

// A lineChecker reads DATA and refuses what SMTP does not allow in it, a bare
// CR or LF above all: mail systems disagree on where such a line ends, and an
// end of data that only some of them see smuggles a second message in.
type lineChecker struct {
	src      io.Reader
	maxLine  int   // octets without CRLF; 0: any
	maxSize  int64 // octets; 0: any
	size     int64
	line     int  // octets of the line so far
	last     byte // octet read last
	crs, lfs int64
	err      error // what Read ends with, for ever: behind a refusal nothing is read
}

// Refusals of what a message is made of.
func errBareLineEnd() *refusal {
	return refuse(550, smtp.EnhancedCode{5, 6, 0}, "bare line end", "Bare CR or LF in the message") // RFC 5321 §2.3.8
}

func errNUL() *refusal {
	return refuse(550, smtp.EnhancedCode{5, 6, 0}, "nul", "NUL in the message") // RFC 5322 §2.2 leaves no room for it
}

func errLongLine() *refusal {
	return refuse(550, smtp.EnhancedCode{5, 6, 0}, "long line", "Line too long")
}

func errTooLarge() *refusal {
	return refuse(552, smtp.EnhancedCode{5, 3, 4}, "size", "Message too large")
}

func (c *lineChecker) Read(p []byte) (int, error) {
	if c.err != nil {
		return 0, c.err
	}
	n, err := c.src.Read(p)
	if err != nil && err != io.EOF {
		err = broken(err)
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

// broken is what an error of a client's connection is to all behind. Only its
// text is kept: go-smtp's word for a connection that was cut is
// io.ErrUnexpectedEOF, which others take for the end of what they read.
func broken(err error) error {
	var reply *smtp.SMTPError
	var own *refusal
	if errors.As(err, &own) || errors.As(err, &reply) || errors.Is(err, errDropped) {
		return err
	}
	return fmt.Errorf("%w: %v", errDropped, err)
}

// check looks at the next octets.
func (c *lineChecker) check(p []byte) *refusal {
	if len(p) == 0 {
		return nil
	}
	c.size += int64(len(p))
	if c.maxSize > 0 && c.size > c.maxSize {
		return errTooLarge()
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
		if c.maxLine > 0 && c.line+i-1 > c.maxLine {
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
	if c.maxLine > 0 && c.line-pending > c.maxLine {
		return errLongLine()
	}
	if c.crs-c.lfs > int64(pending) {
		return errBareLineEnd()
	}
	return nil
}

func hasEightBit(p []byte) bool {
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

// A smtpWriter writes restored octets as SMTP can carry them. A message whose
// first line ends with LF alone, and all of whose lines do, goes out with CRLF;
// what has a bare CR or LF otherwise is refused, since the user of a peer must
// not smuggle either.
type smtpWriter struct {
	dst     io.Writer
	lf      bool // LF style
	started bool
	check   lineChecker
	out     []byte
}

// An eightBitWriter refuses 8-bit content that the next hop does not take.
type eightBitWriter struct {
	dst     io.Writer
	allowed bool
}

func (w *eightBitWriter) Write(p []byte) (int, error) {
	if !w.allowed && hasEightBit(p) {
		return 0, errEightBit()
	}
	return w.dst.Write(p)
}

func errEightBit() *refusal {
	return refuse(554, smtp.EnhancedCode{5, 6, 3}, "8bit", "The next hop takes no 8-bit content") // RFC 6152 §3
}

// style decides between LF and CRLF by the beginning of the message.
func (w *smtpWriter) style(head []byte) {
	i := bytes.IndexByte(head, '\n')
	w.lf = i == 0 || i > 0 && head[i-1] != '\r'
	w.started = true
}

func (w *smtpWriter) Write(p []byte) (int, error) {
	if !w.started {
		w.style(p)
	}
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
func (w *smtpWriter) Close() error {
	if w.check.crs != w.check.lfs {
		return errBareLineEnd()
	}
	return nil
}
