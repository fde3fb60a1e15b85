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

// formStart is how much of a message tells that it is UTF-16, in bytes.
const formStart = 64

// formLimit is how much of a message is looked at before it is encrypted, in
// bytes. What begins further down is not noticed: a message is encrypted as a
// stream.
const formLimit = 256 << 10

// A form is what is unusual about a file that is to be encrypted as a message.
// Nothing of it is changed: what was signed must come back byte for byte.
type form struct {
	utf16   bool
	cr      bool // lines end with CR alone, as on old Macs
	crcrlf  bool // lines end with CR CR LF: a text file was copied as text once too often
	several bool // it is an mbox file of several messages
}

// formOf looks at the beginning of a file.
func formOf(head []byte) form {
	if textfile.IsUTF16(head) {
		return form{utf16: true}
	}
	f := form{cr: endsWithCR(head), crcrlf: bytes.Contains(head, []byte("\r\r\n"))}
	f.several = holdsSeveral(head, f.cr)
	return f
}

// warnings says what a user should know of a file that is encrypted all the same.
func (f form) warnings() (texts []string) {
	if f.utf16 {
		texts = append(texts, "it is UTF-16 text and is encrypted as it is: its header can't be read, so its sender is not known outside; convert it before, for example with: iconv -f UTF-16 -t UTF-8")
	}
	if f.cr {
		texts = append(texts, "its lines end with CR alone; it is encrypted as it is")
	}
	if f.crcrlf {
		texts = append(texts, "it has lines that end with CR CR LF; it is encrypted as it is")
	}
	if f.several {
		texts = append(texts, "it is an mbox file with several messages and is encrypted as one: its header is that of the first; to encrypt each, split it, for example with git mailsplit or formail -s")
	}
	return texts
}

// readHead fills buf from in. It returns what there was, and in from its
// beginning.
func readHead(in io.Reader, buf []byte) (head []byte, whole io.Reader, err error) {
	n, err := io.ReadFull(in, buf)
	if err != nil && err != io.EOF && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, nil, err
	}
	return buf[:n], io.MultiReader(bytes.NewReader(buf[:n]), in), nil
}

// notOurs is the error of a message that can't be read as one of qkdmail. A shell
// may have written it in UTF-16, as the ">" of PowerShell does.
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

// holdsSeveral reports whether text is the beginning of an mbox file in which a
// second message begins: at a line "From " behind a blank one, with a time in it
// or with a header behind it. Programs that write mbox files put a ">" before
// such lines of a message.
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

func isFromLine(line []byte) bool { return bytes.HasPrefix(line, []byte("From ")) }

// cutText returns the first line of text, what follows it, and whether it has an
// end.
func cutText(text []byte, end byte) (line, rest []byte, ended bool) {
	line, rest, ended = bytes.Cut(text, []byte{end})
	return bytes.Trim(line, "\r\n"), rest, ended
}
