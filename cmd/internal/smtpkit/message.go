package smtpkit

import (
	"fmt"
	"strings"
)

// Message returns a message of about this size, in lines with CRLF.
func Message(size int) []byte {
	var b strings.Builder
	b.WriteString("From: Alice <alice@a.example>\r\nTo: Bob <bob@b.example>\r\nSubject: a test\r\n" +
		"Date: Fri, 2 Jan 2026 03:04:05 +0000\r\nMessage-ID: <test@a.example>\r\nMIME-Version: 1.0\r\n" +
		"Content-Type: text/plain; charset=us-ascii\r\n\r\n")
	for n := 0; b.Len() < size; n++ {
		fmt.Fprintf(&b, "%06d The quick brown fox jumps over the lazy dog, and the dog does not.\r\n", n)
	}
	return []byte(b.String())
}
