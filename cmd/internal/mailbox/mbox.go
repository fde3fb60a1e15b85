// Package mailbox reads folders and files with many messages, Maildir and mbox, and
// makes copies of them in a way that can be interrupted at any point.
//
// No library serves here, because decryption must restore the same mailbox, byte for
// byte. go-mbox holds each message in memory, drops the lines between messages and ends
// lines with CRLF; go-maildir renames the messages that it reads.
package mailbox

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
)

// ErrNotMbox means a file that does not begin like an mbox file.
var ErrNotMbox = errors.New("it is not an mbox file: it does not begin with a \"From \" line")

// A Quoting says which lines of an mbox file separate messages (From_ lines), and
// how a message keeps lines that look like them.
type Quoting string

// The ways to quote. Under Rd and O every line that begins with "From " is a From_ line,
// so that undoing and redoing the quoting makes no difference.
const (
	// Rd is mboxrd: a line that begins with any number of ">", or none, and "From " gets
	// one more ">".
	Rd Quoting = "rd"
	// O is mboxo: a line that begins with "From " gets a ">", one with ">From " does
	// not.
	O Quoting = "o"
	// None is for files from programs that do not quote "From " lines in messages. A
	// From_ line has a time in it, which mail programs look for; only lines with a time
	// are quoted, as under Rd.
	None Quoting = "none"
)

// ParseQuoting returns the Quoting with this name.
func ParseQuoting(name string) (Quoting, error) {
	switch q := Quoting(name); q {
	case Rd, O, None:
		return q, nil
	}
	return "", fmt.Errorf("%q: must be rd, o or none", name)
}

// maxFrom is how many bytes of a line are examined.
const maxFrom = 1000

// from is how a From_ line begins.
const from = "From "

// separates reports whether text begins with a From_ line, and whether it is long enough
// to tell. all means that nothing follows text.
func (q Quoting) separates(text []byte, all bool) (yes, known bool) {
	if len(text) < len(from) && bytes.HasPrefix([]byte(from), text) {
		return false, all
	}
	if !bytes.HasPrefix(text, []byte(from)) {
		return false, true
	}
	if q != None {
		return true, true
	}
	line, _, ended := bytes.Cut(text, []byte("\n"))
	return hasTime(line[:min(len(line), maxFrom)]), ended || all || len(text) >= maxFrom
}

// hasTime reports whether there is something like 7:05 in a line. Mail programs require
// more, and each something different, but none takes a line without a time for a From_
// line.
func hasTime(line []byte) bool {
	digit := func(b byte) bool { return '0' <= b && b <= '9' }
	for i := 1; i+1 < len(line); i++ {
		if line[i] == ':' && digit(line[i-1]) && digit(line[i+1]) {
			return true
		}
	}
	return false
}

// A Message says where a message is in an mbox file, as offsets in bytes.
type Message struct {
	Start int64 // of its From_ line, and of blank lines before the first one
	Body  int64 // of the message
	End   int64 // of the message
	Next  int64 // of the next message: a blank line may come before it
	Dated bool  // its From_ line has a time in it
}

// A Scanner finds the messages of an mbox file, in constant memory.
type Scanner struct {
	r   *bufio.Reader
	q   Quoting
	off int64
}

// NewScanner returns a Scanner of an mbox file, starting at the offset at, where a
// message must begin (or the file).
func NewScanner(file io.ReaderAt, at int64, q Quoting) *Scanner {
	r := io.NewSectionReader(file, at, 1<<62)
	return &Scanner{r: bufio.NewReaderSize(r, 64<<10), q: q, off: at}
}

// Next returns the next message, or io.EOF. An empty file has none. The error is
// ErrNotMbox if text comes before the first From_ line.
func (s *Scanner) Next() (Message, error) {
	m := Message{Start: s.off}
	for head := false; !head; {
		var dated bool
		var err error
		if head, dated, err = s.atFrom(); err != nil {
			return m, err
		}
		m.Dated = dated
		n, blank, err := s.skip()
		switch {
		case n == 0 && err == io.EOF && m.Start == s.off:
			return m, io.EOF
		case err != nil && err != io.EOF:
			return m, err
		case !head && !blank:
			return m, ErrNotMbox
		}
	}
	m.Body = s.off
	var blank int64 // length of the last line, if it is blank
	for {
		next, _, err := s.atFrom()
		if err != nil {
			return m, err
		}
		var n int64
		var isBlank bool
		if !next {
			n, isBlank, err = s.skip()
			if err != nil && err != io.EOF {
				return m, err
			}
		}
		if n == 0 { // a From_ line, or the end of the file
			m.End, m.Next = s.off-blank, s.off
			return m, nil
		}
		if blank = 0; isBlank {
			blank = n
		}
	}
}

// atFrom reports whether a From_ line comes next, and whether it has a time in it.
func (s *Scanner) atFrom() (yes, dated bool, err error) {
	text, err := s.r.Peek(len(from))
	if string(text) == from {
		text, err = s.r.Peek(maxFrom)
	}
	if err != nil && err != io.EOF {
		return false, false, err
	}
	line, _, _ := bytes.Cut(text, []byte("\n"))
	yes, _ = s.q.separates(text, true)
	return yes, hasTime(line), nil
}

// skip goes to the next line. It returns the length of this one, 0 at the end of the
// file, and whether it is blank.
func (s *Scanner) skip() (n int64, blank bool, err error) {
	for {
		part, err := s.r.ReadSlice('\n')
		blank = n == 0 && (string(part) == "\n" || string(part) == "\r\n")
		n += int64(len(part))
		s.off += int64(len(part))
		if err == nil || !errors.Is(err, bufio.ErrBufferFull) {
			return n, blank, err
		}
	}
}
