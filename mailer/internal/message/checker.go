package message

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/emersion/go-smtp"
	"github.com/qkdmail/qkdmail/mailer/internal/refusal"
)

// A Checker reads DATA and refuses what SMTP does not allow in it. Above all that is a
// bare CR or LF: mail systems disagree on where such a line ends, and an end of data that
// only some of them see could smuggle in a second message.
type Checker struct {
	Src     io.Reader
	MaxLine int   // bytes without CRLF; 0: any
	MaxSize int64 // bytes; 0: any

	size     int64
	line     int  // bytes of the line so far
	last     byte // the byte read last
	crs, lfs int64
	err      error // what Read keeps returning: after a refusal nothing is read
}

// ErrDropped: the client has gone or was cut off, and gets no answer.
var ErrDropped = errors.New("the client's connection is gone")

// Refusals of bytes that a message must not have.
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
		clear(p[:n]) // the caller, who gets 0 bytes, would not wipe them
		n, err = 0, r
	} else if err == io.EOF && c.crs != c.lfs {
		n, err = 0, errBareLineEnd()
	}
	c.err = err
	return n, err
}

// Broken returns an error of a client's connection as an ErrDropped, and other errors as
// they are. Only the text is kept: for a cut connection go-smtp has io.ErrUnexpectedEOF,
// which a reader could take for the end.
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
	// Each LF has its CR. If there are as many CRs as LFs there is no other CR, except
	// perhaps one at the end whose LF may still come.
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
