package message

import (
	"bytes"
	"strings"
)

// Trace returns a trace field in printable ASCII, with ? for other characters, and with
// CRLF. Over SMTP a field has CRLF already, but a program may read files.
func Trace(field []byte) []byte {
	ascii := bytes.Map(func(r rune) rune {
		if r < ' ' && !strings.ContainsRune("\t\r\n", r) || r > '~' {
			return '?'
		}
		return r
	}, field)
	return bytes.ReplaceAll(bytes.ReplaceAll(ascii, []byte("\r\n"), []byte("\n")), []byte("\n"), []byte("\r\n"))
}
