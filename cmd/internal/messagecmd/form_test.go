package messagecmd

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// TestFormOf: whatever is unusual about a file is found, and nothing is unusual
// about ordinary mail.
func TestFormOf(t *testing.T) {
	const (
		header = "From: Alice <alice@a.example>\nSubject: one\n\n"
		from   = "From alice@a.example Sat Nov 28 07:00:00 2026\n"
	)
	crlf := func(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }
	cr := func(s string) string { return strings.ReplaceAll(s, "\n", "\r") }
	for _, tt := range []struct {
		name, text string
		want       form
	}{
		{"empty", "", form{}},
		{"a message", header + "hi\n", form{}},
		{"CRLF", crlf(header + "hi\n"), form{}},
		{"no line end", "hi", form{}},
		{"a byte order mark", "\uFEFF" + header + "hi\n", form{}},
		{"a CR at the end, which an LF may follow", "From: a\r", form{}},
		{"a CR in a line of the body", header + "50%\r100%\n", form{}},
		{"UTF-16", "\xFF\xFEF\x00r\x00o\x00m\x00", form{utf16: true}},
		{"UTF-16 without a mark", "\x00F\x00r\x00o\x00m\x00:\x00 ", form{utf16: true}},
		{"CR alone", cr(header + "hi\n"), form{cr: true}},
		{"CR CR LF", strings.ReplaceAll(header+"hi\n", "\n", "\r\r\n"), form{crcrlf: true}},
		{"CR CR LF further down", crlf(header) + "hi\r\r\n", form{crcrlf: true}},

		{"one message of an mbox file", from + header + "hi\n\n", form{}},
		{"with a quoted line", from + header + "hi\n\n>From here on\nx: y\n", form{}},
		{"with such a line in a paragraph", from + header + "hi\nFrom Bob Sat Nov 28 07:00:00 2026\nx: y\n", form{}},
		{"with a sentence that begins like it", from + header + "hi\n\nFrom here on all is well.\nYes.\n", form{}},
		{"with a sentence at the end", from + header + "hi\n\nFrom: here", form{}},
		{"with a line that was not quoted", from + header + "hi\n\nFrom inside\n>From quoted\n", form{}},
		{"such lines in other mail", header + "hi\n\n" + from + header, form{}},
		{"not at the start", "\n" + from + header + "\n" + from + header, form{}},
		{"two messages", from + header + "hi\n\n" + from + header + "ho\n", form{several: true}},
		{"two messages, CRLF", crlf(from + header + "hi\n\n" + from + header + "ho\n"), form{several: true}},
		{"two messages, CR alone", cr(from + header + "hi\n\n" + from + header + "ho\n"), form{cr: true, several: true}},
		{"two messages, CR CR LF", strings.ReplaceAll(from+header+"hi\n\n"+from+header, "\n", "\r\r\n"), form{crcrlf: true, several: true}},
		{"two messages after a mark", "\uFEFF" + from + header + "hi\n\n" + from + header, form{several: true}},
		{"two messages without times", "From a\n" + header + "hi\n\nFrom b\n" + header, form{several: true}},
		{"two messages from Thunderbird", "From - Sat Nov 28 07:00:00 2026\n>From - x\n" + header + "\nFrom - Sat Nov 28 07:00:01 2026\n", form{several: true}},
		{"two patches", "From 1a2b3c Mon Sep 17 00:00:00 2001\n" + header + "-- \n2.47\n\nFrom 4d5e6f Mon Sep 17 00:00:00 2001\n", form{several: true}},
		{"a second one without text", from + "\n" + from, form{several: true}},
	} {
		if got := formOf([]byte(tt.text)); got != tt.want {
			t.Errorf("%s: %+v, want %+v", tt.name, got, tt.want)
		}
	}
}

// TestReadHead: the reader has all the input, and no error is lost.
func TestReadHead(t *testing.T) {
	broken := errors.New("broken")
	for _, n := range []int{0, 1, 9, 10, 11, 100} {
		text := strings.Repeat("x", n)
		head, in, err := readHead(iotest.OneByteReader(strings.NewReader(text)), make([]byte, 10))
		if err != nil || len(head) != min(n, 10) {
			t.Fatalf("%d bytes: a head of %d, %v", n, len(head), err)
		}
		if all, err := io.ReadAll(in); string(all) != text || err != nil {
			t.Errorf("%d bytes: the reader has %d, %v", n, len(all), err)
		}
	}
	if _, _, err := readHead(io.MultiReader(strings.NewReader("x"), iotest.ErrReader(broken)), make([]byte, 10)); !errors.Is(err, broken) {
		t.Errorf("an error in the head: %v", err)
	}
	_, in, err := readHead(io.MultiReader(strings.NewReader("0123456789"), iotest.ErrReader(broken)), make([]byte, 10))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(in); !errors.Is(err, broken) {
		t.Errorf("an error after the head: %v", err)
	}
}

// FuzzFormOf: no text breaks formOf, and several messages have several separators.
func FuzzFormOf(f *testing.F) {
	for _, seed := range []string{"", "From \n\nFrom a:\n", "From x\r\rFrom 1:00 2026\r", "\r\r\n", "\xFF\xFEa", "\uFEFFFrom a\n\nFrom b\nc: d\n"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		form := formOf(text)
		if form.several && bytes.Count(text, []byte("From ")) < 2 {
			t.Error("several messages without two separators")
		}
		if form.utf16 && (form.cr || form.crcrlf || form.several) {
			t.Error("UTF-16 is read as bytes")
		}
	})
}
