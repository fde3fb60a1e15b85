package smtpkit

import (
	"bytes"
	"fmt"
	"io"
)

const header = "From: Alice <alice@a.example>\r\nTo: Bob <bob@b.example>\r\nSubject: a test\r\n" +
	"Date: Fri, 2 Jan 2026 03:04:05 +0000\r\nMessage-ID: <test@a.example>\r\nMIME-Version: 1.0\r\n" +
	"Content-Type: text/plain; charset=us-ascii\r\n\r\n"

// Message returns a message of about this size, in lines with CRLF.
func Message(size int) []byte {
	var b bytes.Buffer
	_ = WriteMessage(&b, size) // never fails
	return b.Bytes()
}

// WriteMessage writes a message of about this size, always the same, without
// holding it in memory. No two of its lines are the same, and some begin with a
// dot.
func WriteMessage(w io.Writer, size int) error {
	const block = 64 << 10
	b := append(make([]byte, 0, block+100), header...)
	for n, written := 0, 0; ; n++ {
		if done := written+len(b) >= size; done || len(b) >= block {
			m, err := w.Write(b)
			if written += m; err != nil || done {
				return err
			}
			b = b[:0]
		}
		if n%10 == 9 {
			b = append(b, '.')
		}
		b = fmt.Appendf(b, "%08d The quick brown fox jumps over the lazy dog, and the dog does not.\r\n", n)
	}
}
