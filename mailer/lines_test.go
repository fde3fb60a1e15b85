package mailer

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/emersion/go-smtp"
	"github.com/qkdmail/qkdmail/mailer/internal/smtpserver"
	"github.com/qkdmail/qkdmail/mailer/internal/smtpwire"
)

func TestLineChecker(t *testing.T) {
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
				"octet by octet": iotest.OneByteReader(strings.NewReader(tt.in)),
				"with its error": iotest.DataErrReader(strings.NewReader(tt.in)),
			} {
				got, err := io.ReadAll(&lineChecker{src: r, maxLine: line, maxSize: size})
				if reason := reasonOf(err); reason != tt.reason || reason == "" && string(got) != tt.in {
					t.Errorf("%s: %q, %v", name, got, err)
				}
			}
		})
	}
}

// A reader that fails is no end, whatever it calls it.
func TestLineCheckerErrors(t *testing.T) {
	for _, err := range []error{io.ErrUnexpectedEOF, io.ErrClosedPipe, smtpserver.ErrTooSlow, errors.New("other")} {
		c := &lineChecker{src: io.MultiReader(strings.NewReader("a\r\n"), iotest.ErrReader(err))}
		_, got := io.ReadAll(c)
		if !errors.Is(got, errDropped) || errors.Is(got, io.ErrUnexpectedEOF) || errors.Is(got, io.EOF) {
			t.Errorf("%v became %v", err, got)
		}
	}
	_, got := io.ReadAll(&lineChecker{src: iotest.ErrReader(smtp.ErrDataTooLarge)})
	if errors.Is(got, errDropped) || replyTo(got).Code != 552 {
		t.Errorf("go-smtp's own limit became %v", got)
	}
}

func reasonOf(err error) string {
	if err == nil {
		return ""
	}
	return replyTo(err).reason
}

// slowCheck is what lineChecker looks for, octet by octet.
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

func FuzzLineChecker(f *testing.F) {
	for _, seed := range []string{"a\r\nb\r\n", "a\nb\r", "\r\r\n\n", "0123456789\r\n", "0123456789\r", "\x00", "a\r\n.\r\n"} {
		f.Add([]byte(seed), uint8(1))
		f.Add([]byte(seed), uint8(3))
	}
	f.Fuzz(func(t *testing.T, in []byte, chunk uint8) {
		const longest = 8
		c := &lineChecker{src: &chunks{in, int(chunk)}, maxLine: longest}
		got, err := io.ReadAll(c)
		if want := slowCheck(in, longest); (err == nil) != want {
			t.Fatalf("%q in pieces of %d: %v, want %v", in, chunk, err, want)
		}
		if err == nil && !bytes.Equal(got, in) || !bytes.HasPrefix(in, got) {
			t.Fatalf("%q became %q", in, got)
		}
	})
}

// chunks reads a few octets at a time.
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

func TestSMTPWriter(t *testing.T) {
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
			w := &smtpWriter{dst: &out}
			w.style([]byte(tt.in))
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

func TestReadHead(t *testing.T) {
	field := "X: " + strings.Repeat("x", 100) + "\r\n"
	for _, tt := range []struct {
		name, in string
		fields   int
		reason   string
	}{
		{"usual", "A: 1\r\nB: 2\r\n\r\nbody", 2, ""},
		{"empty", "", 0, ""},
		{"no header", "\r\nbody", 0, ""},
		{"no body", "A: 1\r\n", 1, ""},
		{"cut", "A: 1\r\nB", 1, ""},
		{"largest", strings.Repeat(field, 9) + "\r\nbody", 9, ""},
		{"too large", strings.Repeat(field, 11) + "\r\nbody", 0, "header size"},
		{"no end in sight", strings.Repeat("x", 5000), 0, "header size"},
		{"lines that are no fields", "A: 1\r\nfoo\r\nB: 2\r\n\r\n", 2, ""},
	} {
		for _, size := range []int{1, 7, 1 << 20} {
			h, err := readHead(&chunks{[]byte(tt.in), size}, 1024, newMemory(0).take)
			if reasonOf(err) != tt.reason {
				t.Errorf("%s: %v", tt.name, err)
			}
			if err != nil {
				continue
			}
			fields := len(slices.Collect(h.fields()))
			h.pass()
			whole, _ := io.ReadAll(h)
			if fields != tt.fields || string(whole) != tt.in {
				t.Errorf("%s: %d fields, message %q", tt.name, fields, whole)
			}
		}
	}
}

// What only the relay may say is removed, in all spellings, and nothing else is
// changed.
func TestHeadWithoutOwn(t *testing.T) {
	for in, want := range map[string]string{
		"A: 1\r\nQkdmail-Result: 2\r\nB: 3\r\n\r\nQkdmail-Result: body":                "A: 1\r\nB: 3\r\n\r\nQkdmail-Result: body",
		"Qkdmail-Result: 1\r\n folded\r\n\tmore\r\nB: 3\r\n\r\n":                       "B: 3\r\n\r\n",
		"qkdmail-result: 1\r\nQKDMAIL-Result : 2\r\nA: 3\r\nQkdmail-Result\t:\r\n\r\n": "A: 3\r\n\r\n",
		"Qkdmail-Outer-Authentication-Results: mx; dkim=pass\r\nA: 1\r\n\r\n":          "A: 1\r\n\r\n",
		"qkdmail-outer-authentication-results : mx\r\nQkdmail-Else: x\r\n\r\n":         "\r\n",
		"A: 1\r\n\r\nbody":                    "A: 1\r\n\r\nbody",
		"Qkdmail-Result: 1":                   "",
		"A: 1\r\nfoo\r\nQkdmail-X: 2\r\n\r\n": "A: 1\r\nfoo\r\n\r\n",
		"Qkdmail: 1\r\nX-Qkdmail-Result: 2\r\nQkdmail-Key-ID: 3\r\n\r\n": "Qkdmail: 1\r\nX-Qkdmail-Result: 2\r\nQkdmail-Key-ID: 3\r\n\r\n",
	} {
		for _, size := range []int{1, 5, 1 << 20} {
			h, err := readHead(&chunks{[]byte(in), size}, 1<<20, newMemory(0).take)
			if err != nil {
				t.Fatal(err)
			}
			h.dropOwnWords()
			if got, _ := io.ReadAll(h); string(got) != want {
				t.Errorf("%q without our own words is %q, want %q", in, got, want)
			}
		}
	}
}

// TestSenders wants the domain of everything that a mail program may show as
// the sender.
func TestSenders(t *testing.T) {
	for in, want := range map[string]string{
		"a@x.example": "x.example",
		"A <a@x.example>, \"B, c\" <b@y.example>":    "x.example y.example",
		"a@x.example\r\nFrom: b@y.example":           "x.example y.example",
		"broken <a@x.example\r\n":                    "x.example",
		"(a@x.example":                               "x.example",
		"g: a@x.example, b@y.example;":               "x.example y.example",
		"\r\n a@x.example":                           "x.example",
		"nobody":                                     "",
		"ceo(c)@x.example":                           "x.example",
		"ceo@(c)x.example":                           "x.example",
		"ceo@(c (d) \\) e) x.example":                "x.example",
		"ceo@x(c).example":                           "x x.example",
		"ceo @ x . example":                          "x.example",
		"\"ceo\" @x.example":                         "x.example",
		"\"ceo\"@x.example, x(":                      "x.example",
		"=?utf-8?q?ceo=40x.example?=":                "x.example",
		"ceo@=?utf-8?q?x=2Eexample?=":                "x.example",
		"\"ceo@x.example\" <a@y.example>":            "x.example y.example",
		"[ceo@x.example]":                            "x.example",
		"'ceo@x.example'":                            "x.example",
		"ceo@x.example!":                             "x.example",
		"ceo@x.example\\":                            "x.example",
		"ceo@x.example\u00a0":                        "x.example",
		"ceo@x.example\xff":                          "x.example",
		"ceo@x\uff0eexample":                         "x.example",
		"ceo@x \uff0e example":                       "x.example",
		"@a.example,@b.example:ceo@x.example":        "a.example b.example x.example",
		"ceo@x.example.":                             "x.example.",
		"ceo%x.example@y.example":                    "y.example",
		strings.Repeat("(", 5_000) + "ceo@x.example": "x.example",
	} {
		h, err := readHead(strings.NewReader("To: c@z.example\r\nFrom: "+in+"\r\n\r\n"), 1<<20, newMemory(0).take)
		if err != nil {
			t.Fatal(err)
		}
		found := map[string]bool{}
		for _, d := range h.sender().domains {
			found[d] = true
		}
		for _, domain := range strings.Fields(want) {
			if !found[domain] {
				t.Errorf("%.60q: %q, want %q among them", in, slices.Sorted(maps.Keys(found)), domain)
			}
		}
		if want == "" && len(found) > 0 {
			t.Errorf("%.60q: %q, want none", in, slices.Sorted(maps.Keys(found)))
		}
	}
}

// TestSendersOfBlanks: a step for each blank, not for each pair of them.
func TestSendersOfBlanks(t *testing.T) {
	blanks := strings.Repeat(" ", 4000)
	for in, want := range map[string]string{
		"x@a" + blanks + ".": "a.", "x@a" + blanks + "b": "a", "x@a." + blanks + "b": "a.b", "x@" + blanks: "", "x@a." + blanks: "a.",
	} {
		s := readSender(in)
		if want == "" && len(s.domains) > 0 || want != "" && !slices.Contains(s.domains, want) {
			t.Errorf("%s: %q, want %q", strings.ReplaceAll(in, blanks, " … "), s.domains, want)
		}
		if s.work > 3*len(in) {
			t.Errorf("%s: %d steps", strings.ReplaceAll(in, blanks, " … "), s.work)
		}
	}
}

// No number of fields hides a From.
func TestManyFields(t *testing.T) {
	in := strings.Repeat("a:\r\n", 50_000) + "From: ceo@x.example\r\n\r\nbody\r\n"
	h, err := readHead(strings.NewReader(in), 1<<20, newMemory(0).take)
	if err != nil {
		t.Fatal(err)
	}
	if got := h.sender().domains; !slices.Contains(got, "x.example") {
		t.Errorf("domains of the sender %q, want x.example", got)
	}
}

// TestLineCheckerIsFinal: behind a refusal nothing may be read.
func TestLineCheckerIsFinal(t *testing.T) {
	c := &lineChecker{src: &chunks{[]byte("a\r\nb\x00\r\nrest of it\r\n"), 4}}
	got, err := io.ReadAll(c)
	if err == nil || strings.Contains(string(got), "rest") {
		t.Fatalf("read %q, error %v", got, err)
	}
	if n, again := c.Read(make([]byte, 100)); n > 0 || again != err {
		t.Errorf("behind the refusal: %d octets, error %v, want %v", n, again, err)
	}
}

func TestCheckAddress(t *testing.T) {
	for address, want := range map[string]string{
		"":                               "",
		"a@b.example":                    "a@b.example",
		"a..b.@b_c.example.":             `"a..b."@b_c.example.`,
		"postmaster":                     "postmaster",
		"Postmaster":                     "Postmaster",
		"a@[192.0.2.1]":                  "a@[192.0.2.1]",
		"a@[IPv6:2001:db8::1]":           "a@[IPv6:2001:db8::1]",
		"a b@c":                          `"a b"@c`,
		`a"\@c`:                          `"a\"\\"@c`,
		"a@b@c":                          `"a@b"@c`,
		"v@else.example> NOTIFY=NEVER@c": `"v@else.example> NOTIFY=NEVER"@c`,
		"a@b> x":                         "!",
		"a@b\rc":                         "!",
		"a\x00@b":                        "!",
		"a\t@b":                          "!",
		"a@":                             "!",
		"@b":                             "!",
		"a":                              "!",
		"a@b,c":                          "!",
		"a@[x":                           "!",
		"a@b:1":                          "!",
		"ä@b":                            "!",
		"a@ä":                            "!",
	} {
		got := smtpwire.Mailbox(address)
		if checkAddress(address, false) != nil {
			got = "!"
		}
		if got != want {
			t.Errorf("%q: %s, want %s", address, got, want)
		}
	}
	if checkAddress("ä@ö", true) != nil {
		t.Error("an address of SMTPUTF8 is refused")
	}
}

func TestHasEightBit(t *testing.T) {
	for size := range 40 {
		p := bytes.Repeat([]byte{0x7F}, size)
		if hasEightBit(p) {
			t.Errorf("%d octets of 0x7F", size)
		}
		for i := range p {
			p[i] = 0x80
			if !hasEightBit(p) {
				t.Errorf("0x80 at %d of %d", i, size)
			}
			p[i] = 0x7F
		}
	}
}
