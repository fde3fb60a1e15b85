package envelope

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/qkdmail/qkdmail/cipher/rawheader"
)

// Limits of what a walker holds in memory, in bytes.
const (
	maxHeader     = 1 << 20 // header of a message
	maxPartHeader = 1 << 16 // header of a part
	maxDepth      = 4       // nested multiparts, including the message itself
	maxBoundary   = 200     // boundary; RFC 2046 §5.1.1 allows 70
	maxDelimiter  = 1024    // delimiter line, with trailing blanks
	bufferSize    = 1 << 16
)

// errTooLong means that a header or part is over its limit. The caller decides whether
// the message is ordinary mail or damaged.
var errTooLong = errors.New("over its length limit")

// A multipart is one that the walker is inside.
type multipart struct {
	boundary  string
	encrypted bool // multipart/encrypted with our protocol
}

// A walker goes through the parts of a message from top to bottom.
type walker struct {
	br        *bufio.Reader // of src
	src       countingReader
	lineStart bool        // the next byte begins a line
	inside    []multipart // outermost first
	ours      int         // how many multipart/encrypted with our protocol it has met
}

func newWalker(r io.Reader) *walker {
	w := &walker{br: readers.Get().(*bufio.Reader), src: countingReader{src: r}, lineStart: true}
	w.br.Reset(&w.src)
	return w
}

// readers is a pool, since making and collecting readers costs more than reading
// most messages.
var readers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, bufferSize) }}

// free wipes what the reader has used, since that may be mail in clear, and returns the
// reader to the pool.
func (w *walker) free() {
	used := int(min(w.src.n, bufferSize))
	w.br.Reset(zeros(used))
	_, _ = w.br.Peek(used)
	w.br.Reset(nil)
	readers.Put(w.br)
	w.br, w.src.src = nil, nil
}

// zeros reads as zero bytes, as many as its value says.
type zeros int

func (z zeros) Read(p []byte) (int, error) {
	clear(p[:z])
	return int(z), nil
}

// A countingReader counts what it reads.
type countingReader struct {
	src io.Reader
	n   int64
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.src.Read(p)
	c.n += int64(n)
	return n, err
}

// line returns the next line with its line end. A line longer than the buffer comes in
// pieces; begins is set on the first.
func (w *walker) line() (line []byte, begins bool, err error) {
	begins = w.lineStart
	line, err = w.br.ReadSlice('\n')
	if err == bufio.ErrBufferFull || err == io.EOF && len(line) > 0 {
		err = nil
	}
	w.lineStart = len(line) > 0 && line[len(line)-1] == '\n'
	return line, begins, err
}

// delimiter reports whether a line is a delimiter (RFC 2046 §5.1.1) of a multipart that
// the walker is in, and of which one. A delimiter of an outer multipart ends the inner
// ones.
func (w *walker) delimiter(line []byte) (level int, closing, ok bool) {
	if !bytes.HasPrefix(line, []byte("--")) {
		return 0, false, false
	}
	if len(line) > maxDelimiter {
		return 0, false, false
	}
	text := string(bytes.TrimRight(line[2:], " \t\r\n"))
	for i := len(w.inside) - 1; i >= 0; i-- {
		switch rest, ok := strings.CutPrefix(text, w.inside[i].boundary); {
		case ok && rest == "":
			return i, false, true
		case ok && rest == "--":
			return i, true, true
		}
	}
	return 0, false, false
}

// A part is what the walker knows of a part after its header.
type part struct {
	mediaType string
	encoding  string // Content-Transfer-Encoding, lower case
	level     int    // the multipart it is in
}

// leave leaves all multiparts deeper than level and, after its closing delimiter, that
// one too.
func (w *walker) leave(level int, closing bool) {
	w.inside = w.inside[:level+1]
	if closing {
		w.inside = w.inside[:level]
	}
}

// skip reads to the end of the next delimiter. It returns io.EOF if there is none.
func (w *walker) skip() (level int, closing bool, err error) {
	for {
		line, begins, err := w.line()
		if err != nil {
			return 0, false, err
		}
		if begins {
			if level, closing, ok := w.delimiter(line); ok {
				return level, closing, nil
			}
		}
	}
}

// cutHeader returns the header of a message with its blank line, and what follows
// it, if b has the whole header.
func cutHeader(b []byte) (header, rest []byte, ok bool) {
	for at := 0; ; {
		i := bytes.IndexByte(b[at:], '\n')
		if i < 0 {
			return nil, b, false
		}
		line := b[at : at+i]
		if at += i + 1; len(bytes.TrimRight(line, "\r")) == 0 {
			return b[:at], b[at:], true
		}
	}
}

// header reads a header of at most limit bytes with its blank line. It stops
// before a delimiter, or at the end of the message, and reports that as ended.
func (w *walker) header(limit int) (b []byte, ended bool, err error) {
	b = make([]byte, 0, 512)
	for {
		if ahead, err := w.atDelimiter(); ahead || err != nil {
			return b, true, err
		}
		line, begins, err := w.line()
		if err == io.EOF {
			return b, true, nil
		}
		if err != nil {
			return nil, false, err
		}
		if len(b)+len(line) > limit {
			return nil, false, errTooLong
		}
		b = append(b, line...)
		if begins && len(bytes.TrimRight(line, "\r\n")) == 0 {
			return b, false, nil
		}
	}
}

// atDelimiter looks ahead and reports whether a delimiter comes next. A read error
// counts only if it leaves the question open.
func (w *walker) atDelimiter() (bool, error) {
	if !w.lineStart {
		return false, nil
	}
	if b, _ := w.br.Peek(2); string(b) != "--" {
		return false, nil
	}
	b, err := w.br.Peek(maxDelimiter)
	if i := bytes.IndexByte(b, '\n'); i >= 0 {
		b, err = b[:i], nil
	}
	if err != nil && err != io.EOF {
		return false, err
	}
	_, _, ok := w.delimiter(b)
	return ok, nil
}

// nextPart goes to the next part, reads its header, and enters it if it is a
// multipart. It returns io.EOF at the end of the message.
func (w *walker) nextPart() (*part, error) {
	for {
		level, closing, err := w.skip()
		if err != nil {
			return nil, err
		}
		w.leave(level, closing)
		if closing {
			continue
		}
		b, _, err := w.header(maxPartHeader)
		if err != nil && err != errTooLong {
			return nil, err
		}
		t := readContentType(fieldText(b, "Content-Type"))
		w.enter(t)
		return &part{mediaType: t.media, encoding: readEncoding(fieldText(b, "Content-Transfer-Encoding")), level: level}, nil
	}
}

// enter enters a multipart, unless it is too deep or has no readable boundary. The
// walker never enters message/*, so it never sees the parts in it.
func (w *walker) enter(t contentType) {
	if !strings.HasPrefix(t.media, "multipart/") || len(w.inside) >= maxDepth {
		return
	}
	encrypted := t.media == "multipart/encrypted" && equalFold(t.protocol, ControlType)
	if encrypted {
		w.ours++
	}
	if boundary := strings.TrimRight(t.boundary, " \t"); boundary != "" && len(boundary) <= maxBoundary {
		w.inside = append(w.inside, multipart{boundary, encrypted})
	}
}

// drain reads what follows the last delimiter and returns io.EOF, so that the sender of
// the stream is not cut off in the middle.
func (w *walker) drain() error {
	if _, err := io.Copy(io.Discard, w.br); err != nil {
		return err
	}
	return io.EOF
}

// body reads the rest of a part, up to a delimiter, which it leaves unread. It fails if
// the part has more than limit bytes.
func (w *walker) body(limit int) ([]byte, error) {
	var b []byte
	for {
		if ahead, err := w.atDelimiter(); ahead || err != nil {
			return b, err
		}
		line, _, err := w.line()
		if err == io.EOF {
			return b, nil
		}
		if err != nil {
			return nil, err
		}
		if len(b)+len(line) > limit {
			return nil, errTooLong
		}
		b = append(b, line...)
	}
}

// equalFold compares US-ASCII text in any case. Letters outside US-ASCII, such as the
// Kelvin sign, may fold to one inside, but none has the same length.
func equalFold(a, b string) bool { return len(a) == len(b) && strings.EqualFold(a, b) }

// fieldText returns the value of the first field of a header with this name, or ""
// if there is none.
func fieldText(header []byte, name string) string {
	f, _ := rawheader.First(header, rawheader.Lenient, name)
	return f.Text()
}

// damaged returns an ErrDamaged with what is wrong.
func damaged(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrDamaged, fmt.Sprintf(format, args...))
}
