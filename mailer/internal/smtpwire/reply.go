package smtpwire

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/emersion/go-smtp"
)

// maxReplyLine is the longest line of a reply that is written, in bytes with its
// CRLF: RFC 5321 §4.5.3.1.5.
const maxReplyLine = 512

// AppendReply appends a reply to b, with a line for each line of text. Each line has the
// enhanced code (RFC 2034 §4), X.0.0 if e is [smtp.EnhancedCodeNotSet]. There is none
// with [smtp.NoEnhancedCode], nor with codes that have none, such as 354.
func AppendReply(b []byte, code int, e smtp.EnhancedCode, text string) []byte {
	if class := code / 100; class != 2 && class != 4 && class != 5 {
		e = smtp.NoEnhancedCode
	} else if e == smtp.EnhancedCodeNotSet {
		e = smtp.EnhancedCode{class, 0, 0}
	}
	status := ""
	if e != smtp.NoEnhancedCode {
		status = fmt.Sprintf("%d.%d.%d ", e[0], e[1], e[2])
	}
	lines := replyLines(text, maxReplyLine-len("250 \r\n")-len(status))
	for i, line := range lines {
		b = strconv.AppendInt(b, int64(code), 10)
		if i < len(lines)-1 {
			b = append(b, '-')
		} else {
			b = append(b, ' ')
		}
		b = append(append(append(b, status...), line...), "\r\n"...)
	}
	return b
}

// replyLines splits a text at its line ends, and lines that are too long.
func replyLines(text string, longest int) []string {
	var lines []string
	for line := range strings.SplitSeq(text, "\n") {
		line = strings.TrimRight(line, "\r")
		for len(line) > longest {
			n := strings.LastIndexByte(line[:longest], ' ')
			if n <= 0 {
				n = longest
			}
			lines = append(lines, line[:n])
			line = strings.TrimLeft(line[n:], " ")
		}
		lines = append(lines, line)
	}
	return lines
}

// A Reply is a server's reply to a command.
type Reply struct {
	Code  int // of the last line
	First int // of the first line; different only in broken replies
	Lines []string
}

// Bounds of a reply that is read, in bytes.
const (
	maxReply     = 64 << 10 // that are kept
	maxReplyRead = 1 << 20  // that are read
)

var (
	// ErrReply: what a server has sent is not a reply.
	ErrReply = errors.New("not a reply")
	// ErrLongReply: a reply has no end.
	ErrLongReply = errors.New("a reply without end")
)

// ReadReply reads a reply. A line may lack the blank and the text after its code (RFC 5321
// §4.2), end with LF alone, and have any length up to a bound.
func ReadReply(in *bufio.Reader) (r Reply, err error) {
	kept, read := 0, 0
	for {
		line, n, err := readReplyLine(in, max(maxReply-kept, len("250 ")))
		if read += n; err != nil {
			return r, err
		}
		code, last, ok := replyCode(line)
		if !ok {
			return r, fmt.Errorf("%w: %.80q", ErrReply, line)
		}
		if r.Code = code; r.First == 0 {
			r.First = code
		}
		if kept += len(line); kept <= maxReply {
			r.Lines = append(r.Lines, line[min(len(line), 4):])
		}
		switch {
		case last:
			return r, nil
		case read > maxReplyRead:
			return r, ErrLongReply
		}
	}
}

// readReplyLine reads a line. It returns the line without its end and cut to most bytes,
// and how many bytes it took. A last line without a line end counts too.
func readReplyLine(in *bufio.Reader, most int) (line string, n int, err error) {
	var b strings.Builder
	for {
		piece, err := in.ReadSlice('\n')
		b.Write(piece[:min(len(piece), most-b.Len())])
		n += len(piece)
		switch {
		case err == nil, err == io.EOF && n > 0:
			return strings.TrimRight(b.String(), "\r\n"), n, nil
		case err != bufio.ErrBufferFull:
			return "", n, err
		case n > maxReplyRead:
			return "", n, ErrLongReply
		}
	}
}

// replyCode reads the code of a line, and whether the line is the last.
func replyCode(line string) (code int, last, ok bool) {
	if len(line) < 3 {
		return 0, false, false
	}
	for i := range 3 {
		if line[i] < '0' || line[i] > '9' {
			return 0, false, false
		}
		code = 10*code + int(line[i]-'0')
	}
	return code, len(line) == 3 || line[3] != '-', code >= 200 && code <= 599
}

// Err returns a reply that refuses as an error.
func (r Reply) Err() *smtp.SMTPError {
	e := &smtp.SMTPError{Code: r.Code}
	lines := make([]string, len(r.Lines))
	for i, line := range r.Lines {
		code, text, ok := EnhancedCode(line, r.Code/100)
		if ok && e.EnhancedCode == smtp.EnhancedCodeNotSet {
			e.EnhancedCode = code
		}
		lines[i] = text
	}
	e.Message = strings.Join(lines, "\n")
	return e
}

// Text returns the reply's text without enhanced codes, its lines joined.
func (r Reply) Text() string { return r.Err().Message }

// Line returns the reply on one line, without its code but with the enhanced code of its
// first line that has one.
func (r Reply) Line() string {
	e := r.Err()
	text := strings.ReplaceAll(e.Message, "\n", " ")
	if e.EnhancedCode == smtp.EnhancedCodeNotSet {
		return text
	}
	return fmt.Sprintf("%d.%d.%d %s", e.EnhancedCode[0], e.EnhancedCode[1], e.EnhancedCode[2], text)
}

// EnhancedCode takes the enhanced code off a line, if it has one of the reply's class: RFC
// 2034 §4, RFC 3463 §2.
func EnhancedCode(line string, class int) (e smtp.EnhancedCode, text string, ok bool) {
	word, text, _ := strings.Cut(line, " ")
	parts := strings.Split(word, ".")
	if len(parts) != 3 {
		return e, line, false
	}
	for i, part := range parts {
		n, err := strconv.ParseUint(part, 10, 10)
		if err != nil || len(part) > 3 {
			return e, line, false
		}
		e[i] = int(n)
	}
	if e[0] != class {
		return smtp.EnhancedCode{}, line, false
	}
	return e, text, true
}
