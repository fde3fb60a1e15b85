package smtpwire

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/emersion/go-smtp"
)

func TestAppendReply(t *testing.T) {
	long := strings.Repeat("word ", 300)
	for _, tt := range []struct {
		code int
		e    smtp.EnhancedCode
		text string
		want string
	}{
		{250, smtp.EnhancedCode{2, 1, 5}, "Ok", "250 2.1.5 Ok\r\n"},
		{250, smtp.EnhancedCodeNotSet, "Ok", "250 2.0.0 Ok\r\n"},
		{354, smtp.EnhancedCodeNotSet, "Go ahead", "354 Go ahead\r\n"},
		{220, smtp.NoEnhancedCode, "relay ESMTP", "220 relay ESMTP\r\n"},
		{550, smtp.EnhancedCode{5, 7, 1}, "Blocked\nsee the site\r\nend", "550-5.7.1 Blocked\r\n550-5.7.1 see the site\r\n550 5.7.1 end\r\n"},
		{550, smtp.EnhancedCode{5, 1, 1}, "", "550 5.1.1 \r\n"},
	} {
		if got := string(AppendReply(nil, tt.code, tt.e, tt.text)); got != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
		}
	}
	for line := range strings.Lines(string(AppendReply(nil, 550, smtp.EnhancedCode{5, 7, 1}, long+strings.Repeat("x", 2000)))) {
		if len(line) > 512 || !strings.HasPrefix(line[4:], "5.7.1 ") {
			t.Errorf("a line of %d bytes: %q", len(line), line)
		}
	}
}

func TestReadReply(t *testing.T) {
	long := strings.Repeat("x", 10_000)
	for in, want := range map[string]string{
		"250 2.0.0 queued as 1\r\n":           "250 250 [2.0.0 queued as 1]",
		"250\r\n":                             "250 250 []",
		"250 \r\n":                            "250 250 []",
		"250":                                 "250 250 []",
		"250 ok\n":                            "250 250 [ok]",
		"250-a\r\n250-b\r\n250 c\r\n":         "250 250 [a b c]",
		"250-a\r\n250\r\n":                    "250 250 [a ]",
		"220-hello\r\n521 no mail here\r\n":   "521 220 [hello no mail here]",
		"250ok\r\n":                           "250 250 [k]",
		"250 " + long + "\r\n":                "250 250 [" + long + "]",
		"354\r\n":                             "354 354 []",
		"550-5.7.1 Blocked\r\n550 5.7.1 \r\n": "550 550 [5.7.1 Blocked 5.7.1 ]",
	} {
		for name, r := range map[string]io.Reader{"whole": strings.NewReader(in), "byte by byte": iotest.OneByteReader(strings.NewReader(in))} {
			reply, err := ReadReply(bufio.NewReader(r))
			if got := fmt.Sprint(reply.Code, reply.First, reply.Lines); err != nil || got != want {
				t.Errorf("%.50q, %s: got %.80s (%v), want %.80s", in, name, got, err, want)
			}
		}
	}
	for in, want := range map[string]error{
		"":                                   io.EOF,
		"hello\r\n":                          ErrReply,
		"25\r\n":                             ErrReply,
		"\r\n":                               ErrReply,
		"999 x\r\n":                          ErrReply,
		"100 x\r\n":                          ErrReply,
		"250-a\r\nnonsense\r\n":              ErrReply,
		strings.Repeat("250-x\r\n", 300_000): ErrLongReply,
		"250 " + strings.Repeat("x", 3<<20):  ErrLongReply,
	} {
		if r, err := ReadReply(bufio.NewReader(strings.NewReader(in))); !errors.Is(err, want) {
			t.Errorf("%.40q: got %d lines, %v; want %v", in, len(r.Lines), err, want)
		}
	}
}

// The first line of a reply that then breaks off is known: after the final dot
// it decides.
func TestReplyBrokenOff(t *testing.T) {
	r, err := ReadReply(bufio.NewReader(strings.NewReader("250-2.0.0 queued\r\n")))
	if !errors.Is(err, io.EOF) || r.First != 250 {
		t.Errorf("got %+v, %v", r, err)
	}
}

func TestReplyErr(t *testing.T) {
	for in, want := range map[string]string{
		"550 5.1.1 no such user\r\n": "550 [5 1 1] no such user",
		"550 5.1.1\r\n":              "550 [5 1 1] ",
		"550 no such user\r\n":       "550 [0 0 0] no such user",
		"550\r\n":                    "550 [0 0 0] ",
		"550-5.7.1 Blocked\r\n550-see the site\r\n550 5.7.1 end\r\n": "550 [5 7 1] Blocked\nsee the site\nend",
		"550-see\r\n550 5.7.1 end\r\n":                               "550 [5 7 1] see\nend",
		"450 5.7.1 x\r\n":                                            "450 [0 0 0] 5.7.1 x",
		"550 5.7 x\r\n":                                              "550 [0 0 0] 5.7 x",
		"550 5.1234.1 x\r\n":                                         "550 [0 0 0] 5.1234.1 x",
	} {
		r, err := ReadReply(bufio.NewReader(strings.NewReader(in)))
		if err != nil {
			t.Fatal(err)
		}
		e := r.Err()
		if got := fmt.Sprint(e.Code, " ", e.EnhancedCode, " ", e.Message); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

// A reply that is written is read back unchanged.
func FuzzReply(f *testing.F) {
	f.Add([]byte("250-a\r\n250 b\r\n"), "text\nmore")
	f.Fuzz(func(t *testing.T, in []byte, text string) {
		_, _ = ReadReply(bufio.NewReader(strings.NewReader(string(in)))) // must come to an end
		text = strings.Map(func(r rune) rune {
			if r < ' ' && r != '\n' || r > '~' {
				return '?'
			}
			return r
		}, text)
		out := AppendReply(nil, 550, smtp.EnhancedCode{5, 7, 1}, text)
		r, err := ReadReply(bufio.NewReader(strings.NewReader(string(out))))
		if err != nil || r.Code != 550 || r.Err().EnhancedCode != (smtp.EnhancedCode{5, 7, 1}) {
			t.Fatalf("%q: %+v, %v", out, r, err)
		}
		if got := r.Text(); len(text) < 400 && got != text {
			t.Errorf("%q came as %q", text, got)
		}
	})
}
