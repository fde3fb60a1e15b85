package messagecmd

import (
	"bytes"
	"errors"
	"io"
	"regexp"

	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/cmd/internal/terminal"
	"github.com/qkdmail/qkdmail/kmclient/textfile"
)

// formStart is how many bytes of a message show whether it is UTF-16.
const formStart = 64

// formLimit is how many bytes of a message are examined before it is encrypted. What
// comes later goes unnoticed, since a message is encrypted as a stream.
const formLimit = 256 << 10

// A form is what is unusual about a file that is encrypted as a message. The file is
// encrypted unchanged: what was signed must be restored byte for byte.
type form struct {
	utf16   bool
	cr      bool // lines end with CR alone, as on old Macs
	crcrlf  bool // lines end with CR CR LF: a text file was converted once too often
	several bool // it is an mbox file with several messages
}

// formOf examines the beginning of a file.
func formOf(head []byte) form {
	if textfile.IsUTF16(head) {
		return form{utf16: true}
	}
	f := form{cr: endsWithCR(head), crcrlf: bytes.Contains(head, []byte("\r\r\n"))}
	f.several = holdsSeveral(head, f.cr)
	return f
}

// warnings returns what a user should know about a file that is encrypted nevertheless.
func (f form) warnings() (texts []string) {
	if f.utf16 {
		texts = append(texts, "it is UTF-16 text and is encrypted unchanged: its header can't be read, so its sender is not known outside; convert it first, for example with: iconv -f UTF-16 -t UTF-8")
	}
	if f.cr {
		texts = append(texts, "its lines end with CR alone; it is encrypted unchanged")
	}
	if f.crcrlf {
		texts = append(texts, "it has lines that end with CR CR LF; it is encrypted unchanged")
	}
	if f.several {
		texts = append(texts, "it is an mbox file with several messages and is encrypted as one, under the header of the first; to encrypt each, use --mbox")
	}
	return texts
}

// readHead fills buf from in. It returns the bytes that it has read, and a reader of
// all of in.
func readHead(in io.Reader, buf []byte) (head []byte, whole io.Reader, err error) {
	n, err := io.ReadFull(in, buf)
	if err != nil && err != io.EOF && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, nil, err
	}
	return buf[:n], io.MultiReader(bytes.NewReader(buf[:n]), in), nil
}

// notOurs returns the error for a file that is not recognised as an encrypted message.
// A shell may have converted it to UTF-16, as PowerShell's ">" does.
func notOurs(err error, head []byte) error {
	if !errors.Is(err, cipher.ErrNotEncrypted) || !textfile.IsUTF16(head) {
		return err
	}
	return terminal.Fail(terminal.ExitData, "convert it, for example with: iconv -f UTF-16 -t UTF-8; and let qkdmail write the file, with -o", "it is UTF-16 text: %w", err)
}

// endsWithCR reports whether the first line of text ends with a CR that no LF
// follows.
func endsWithCR(text []byte) bool {
	i := bytes.IndexAny(text, "\r\n")
	if i < 0 || text[i] == '\n' {
		return false
	}
	rest := bytes.TrimLeft(text[i:], "\r")
	return len(rest) > 0 && rest[0] != '\n'
}

// holdsSeveral reports whether text is the beginning of an mbox file with a second
// message. A message begins with a "From " line after a blank one; the line has a time
// in it, or a header follows it. Programs that write mbox files put ">" before such
// lines in a message.
func holdsSeveral(text []byte, cr bool) bool {
	text = bytes.TrimPrefix(text, []byte("\uFEFF"))
	end := byte('\n')
	if cr {
		end = '\r'
	}
	line, rest, more := cutText(text, end)
	if !isFromLine(line) {
		return false
	}
	separator := regexp.MustCompile(`^From .*\d:\d\d.*\d{4}`) // RFC 4155: a sender and a time
	firstField := regexp.MustCompile(`^[!-9;-~]+[ \t]*:`)
	for more {
		blank := len(line) == 0
		if line, rest, more = cutText(rest, end); !blank || !isFromLine(line) {
			continue
		}
		next, _, ended := cutText(rest, end)
		if separator.Match(line) || ended && firstField.Match(next) {
			return true
		}
	}
	return false
}

// A fromLines counts the lines that begin with "From " in the text written to it.
type fromLines struct {
	n      int
	inside bool // a line that is already known to begin with it or not
	line   []byte
}

func (f *fromLines) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		part, after, ended := bytes.Cut(rest, []byte("\n"))
		if !f.inside {
			f.line = append(f.line, part[:min(len(part), len("From "))]...)
			if f.inside = len(f.line) >= len("From "); f.inside && isFromLine(f.line) {
				f.n++
			}
		}
		if rest = after; ended {
			f.line, f.inside = f.line[:0], false
		}
	}
	return len(p), nil
}

func isFromLine(line []byte) bool { return bytes.HasPrefix(line, []byte("From ")) }

// cutText returns the first line of text, the rest, and whether the line is complete.
func cutText(text []byte, end byte) (line, rest []byte, ended bool) {
	line, rest, ended = bytes.Cut(text, []byte{end})
	return bytes.Trim(line, "\r\n"), rest, ended
}
