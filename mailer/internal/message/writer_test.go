package message

import (
	"bytes"
	"io"
	"testing"
)

func TestWriter(t *testing.T) {
	for _, tt := range []struct{ name, in, out, reason string }{
		{"CRLF", "a\r\nb\r\n", "a\r\nb\r\n", ""},
		{"LF", "a\n\nb\n", "a\r\n\r\nb\r\n", ""},
		{"LF, no end", "a\nb", "a\r\nb", ""},
		{"LF first", "\na\n", "\r\na\r\n", ""},
		{"no line end", "a", "a", ""},
		{"CRLF then LF", "a\r\nb\n", "", "bare line end"},
		{"LF then CRLF", "a\nb\r\n", "", "bare line end"},
		{"LF then CR", "a\nb\rc\n", "", "bare line end"},
		{"CR", "a\rb\r\n", "", "bare line end"},
		{"CR last", "a\r\nb\r", "", "bare line end"},
		{"only CR", "\r", "", "bare line end"},
		{"NUL", "a\x00\n", "", "nul"},
		{"dot smuggled, LF", "a\n.\r\nb\n", "", "bare line end"},
		{"dot smuggled, CRLF", "a\r\n.\nb\r\n", "", "bare line end"},
	} {
		for _, size := range []int{1, 2, 3, len(tt.in)} {
			var out bytes.Buffer
			w := NewWriter(&out, []byte(tt.in))
			_, err := io.Copy(struct{ io.Writer }{w}, &chunks{[]byte(tt.in), size})
			if err == nil {
				err = w.Close()
			}
			if reason := reasonOf(err); reason != tt.reason || reason == "" && out.String() != tt.out {
				t.Errorf("%s in pieces of %d: %q, %v", tt.name, size, &out, err)
			}
		}
	}
}

func TestHasEightBit(t *testing.T) {
	for size := range 40 {
		p := bytes.Repeat([]byte{0x7F}, size)
		if HasEightBit(p) {
			t.Errorf("%d bytes of 0x7F", size)
		}
		for i := range p {
			p[i] = 0x80
			if !HasEightBit(p) {
				t.Errorf("0x80 at %d of %d", i, size)
			}
			p[i] = 0x7F
		}
	}
}
