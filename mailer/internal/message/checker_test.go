package message

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/emersion/go-smtp"
	"github.com/qkdmail/qkdmail/mailer/internal/refusal"
	"github.com/qkdmail/qkdmail/mailer/internal/smtpserver"
)

func TestChecker(t *testing.T) {
	const line, size = 10, 40
	for _, tt := range []struct{ name, in, reason string }{
		{"nothing", "", ""},
		{"lines", "a\r\n\r\nb\r\n", ""},
		{"no line end", "a", ""},
		{"longest line", "0123456789\r\n0123456789\r\n", ""},
		{"too long", "0123456789a\r\n", "long line"},
		{"too long without an end", "0123456789a", "long line"},
		{"full size", strings.Repeat("012345678\r\n", 3) + "0123456", ""},
		{"too large", strings.Repeat("012345678\r\n", 4), "size"},
		{"LF", "a\nb\r\n", "bare line end"},
		{"LF first", "\na\r\n", "bare line end"},
		{"LF last", "a\r\n\n", "bare line end"},
		{"CR", "a\rb\r\n", "bare line end"},
		{"CR first", "\ra\r\n", "bare line end"},
		{"CR last", "a\r\n\r", "bare line end"},
		{"CR CR LF", "a\r\r\n", "bare line end"},
		{"CR before and LF after", "\ra\n", "bare line end"},
		{"LF before and CR after", "\na\r", "bare line end"},
		{"NUL", "a\x00\r\n", "nul"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for name, r := range map[string]io.Reader{
				"whole":          strings.NewReader(tt.in),
				"byte by byte":   iotest.OneByteReader(strings.NewReader(tt.in)),
				"with its error": iotest.DataErrReader(strings.NewReader(tt.in)),
			} {
				got, err := io.ReadAll(&Checker{Src: r, MaxLine: line, MaxSize: size})
				if reason := reasonOf(err); reason != tt.reason || reason == "" && string(got) != tt.in {
					t.Errorf("%s: %q, %v", name, got, err)
				}
			}
		})
	}
}

// A reader's failure is not the end of a message, whatever error it is.
func TestCheckerErrors(t *testing.T) {
	for _, err := range []error{io.ErrUnexpectedEOF, io.ErrClosedPipe, smtpserver.ErrTooSlow, errors.New("other")} {
		c := &Checker{Src: io.MultiReader(strings.NewReader("a\r\n"), iotest.ErrReader(err))}
		_, got := io.ReadAll(c)
		if !errors.Is(got, ErrDropped) || errors.Is(got, io.ErrUnexpectedEOF) || errors.Is(got, io.EOF) {
			t.Errorf("%v became %v", err, got)
		}
	}
	_, got := io.ReadAll(&Checker{Src: iotest.ErrReader(smtp.ErrDataTooLarge)})
	if reply := (*smtp.SMTPError)(nil); errors.Is(got, ErrDropped) || !errors.As(got, &reply) || reply.Code != 552 {
		t.Errorf("the error of go-smtp's own limit became %v", got)
	}
}

func reasonOf(err error) string {
	if r := (*refusal.Refusal)(nil); errors.As(err, &r) {
		return r.Reason
	}
	if err != nil {
		return err.Error()
	}
	return ""
}

// slowCheck is what Checker looks for, byte by byte.
func slowCheck(p []byte, maxLine int) bool {
	line := 0
	for i, c := range p {
		switch {
		case c == 0,
			c == '\n' && (i == 0 || p[i-1] != '\r'),
			c == '\r' && (i+1 == len(p) || p[i+1] != '\n'):
			return false
		case c == '\n':
			line = 0
		case c != '\r':
			if line++; line > maxLine {
				return false
			}
		}
	}
	return true
}

func FuzzChecker(f *testing.F) {
	for _, seed := range []string{"a\r\nb\r\n", "a\nb\r", "\r\r\n\n", "0123456789\r\n", "0123456789\r", "\x00", "a\r\n.\r\n"} {
		f.Add([]byte(seed), uint8(1))
		f.Add([]byte(seed), uint8(3))
	}
	f.Fuzz(func(t *testing.T, in []byte, chunk uint8) {
		const longest = 8
		c := &Checker{Src: &chunks{in, int(chunk)}, MaxLine: longest}
		got, err := io.ReadAll(c)
		if want := slowCheck(in, longest); (err == nil) != want {
			t.Fatalf("%q in pieces of %d: %v, want %v", in, chunk, err, want)
		}
		if err == nil && !bytes.Equal(got, in) || !bytes.HasPrefix(in, got) {
			t.Fatalf("%q became %q", in, got)
		}
	})
}

// chunks reads a few bytes at a time.
type chunks struct {
	rest []byte
	size int
}

func (c *chunks) Read(p []byte) (int, error) {
	if len(c.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), max(c.size, 1))], c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

// TestCheckerIsFinal: after a refusal nothing may be read.
func TestCheckerIsFinal(t *testing.T) {
	c := &Checker{Src: &chunks{[]byte("a\r\nb\x00\r\nrest of it\r\n"), 4}}
	got, err := io.ReadAll(c)
	if err == nil || strings.Contains(string(got), "rest") {
		t.Fatalf("read %q, error %v", got, err)
	}
	if n, again := c.Read(make([]byte, 100)); n > 0 || again != err {
		t.Errorf("after the refusal: %d bytes, error %v, want %v", n, again, err)
	}
}
