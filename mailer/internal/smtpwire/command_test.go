package smtpwire

import (
	"strings"
	"testing"

	"github.com/emersion/go-smtp"
)

func TestCommand(t *testing.T) {
	for line, want := range map[string][2]string{
		"DATA\r\n":                 {"DATA", ""},
		"data \t\r\n":              {"DATA", ""},
		"RSET":                     {"RSET", ""},
		"Mail From:<a@b>\n":        {"MAIL", "From:<a@b>"},
		"MAIL\tFROM:<a@b>  X=Y \n": {"MAIL", "FROM:<a@b>  X=Y"},
		"":                         {"", ""},
		" NOOP\r\n":                {"", "NOOP"},
	} {
		if verb, arg := Command(line); verb != want[0] || arg != want[1] {
			t.Errorf("%q: got %q and %q, want %q", line, verb, arg, want)
		}
	}
}

func TestPath(t *testing.T) {
	for arg, want := range map[string][2]string{
		"TO:<a@b.example>":                     {"a@b.example", ""},
		"to:<a@b.example> X=1":                 {"a@b.example", " X=1"},
		"TO: <a@b.example>\tX=1":               {"a@b.example", "\tX=1"},
		"TO:a@b.example X=1":                   {"a@b.example", " X=1"},
		"TO:<>":                                {"", ""},
		"TO:<> SIZE=1":                         {"", " SIZE=1"},
		"TO:<postmaster>":                      {"postmaster", ""},
		"TO:<PostMaster> NOTIFY=NEVER":         {"PostMaster", " NOTIFY=NEVER"},
		"TO:<@x.example,@y.example:a@b>":       {"a@b", ""},
		"TO:<@x.example:postmaster>":           {"postmaster", ""},
		`TO:<"a..b"@b.example>`:                {"a..b@b.example", ""},
		`TO:<"o d"@b.example>`:                 {"o d@b.example", ""},
		`TO:<"a\"b\\c"@b.example>`:             {`a"b\c@b.example`, ""},
		`TO:<"a>b@c"@b.example>`:               {"a>b@c@b.example", ""},
		"TO:<a..b@b.example>":                  {"a..b@b.example", ""},
		"TO:<.a.@b.example>":                   {".a.@b.example", ""},
		"TO:<jörg@bücher.example>":             {"jörg@bücher.example", ""},
		"TO:<a@[192.0.2.1]>":                   {"a@[192.0.2.1]", ""},
		"TO:<a@[IPv6:2001:db8::1]> BY=1;R":     {"a@[IPv6:2001:db8::1]", " BY=1;R"},
		"TO:<a+b=c!#$%&'*/?^_`{|}~-@b>":        {"a+b=c!#$%&'*/?^_`{|}~-@b", ""},
		`TO:<"victim@x> NOTIFY=NEVER "@b.com>`: {"victim@x> NOTIFY=NEVER @b.com", ""},
	} {
		mailbox, params, err := Path(arg, "TO:")
		if err != nil || mailbox != want[0] || params != want[1] {
			t.Errorf("%q: got %q, %q, %v; want %q", arg, mailbox, params, err, want)
		}
	}
}

func TestPathRefused(t *testing.T) {
	for _, arg := range []string{
		"", "TO", "TO:", "FROM:<a@b>", "TO:<a@b", "TO:<a@b>x", "TO:<a@b>>", "TO:<a@>", "TO:<@b>", "TO:<a b@c>", "TO:<a@b c>",
		`TO:<"a@b>`, `TO:<"a\`, `TO:<"a"b@c>`, "TO:<a@b@c>", "TO:<a,b@c>", "TO:<<a@b>>", "TO:<@x.example a@b>", "TO:<@x>", "TO:<a@b\">", "TO: ",
		`TO:<@"x":a@b>`, "TO:<root>", `TO:<"victim@b.example">`, "TO:<a@b><c@d>", "TO:<(c)a@b>",
	} {
		if mailbox, _, err := Path(arg, "TO:"); err == nil {
			t.Errorf("%q was read as %q", arg, mailbox)
		}
	}
}

func TestMailbox(t *testing.T) {
	for mailbox, want := range map[string]string{
		"":                  "",
		"a@b.example":       "a@b.example",
		"a.b@b.example":     "a.b@b.example",
		"jörg@b.example":    "jörg@b.example",
		"postmaster":        "postmaster",
		"a..b@b.example":    `"a..b"@b.example`,
		"ab.@b.example":     `"ab."@b.example`,
		".ab@b.example":     `".ab"@b.example`,
		"o d@b.example":     `"o d"@b.example`,
		`a"b\c@b.example`:   `"a\"b\\c"@b.example`,
		"a@c@b.example":     `"a@c"@b.example`,
		"@b.example":        `""@b.example`,
		"a>b@b.example":     `"a>b"@b.example`,
		"a(c)@b.example":    `"a(c)"@b.example`,
		"a@[192.0.2.1]":     "a@[192.0.2.1]",
		"tab\there@b.examp": "\"tab\there\"@b.examp",
	} {
		if got := Mailbox(mailbox); got != want {
			t.Errorf("%q: got %s, want %s", mailbox, got, want)
		}
	}
}

// What is written is read as the same mailbox, and ends where it should.
func FuzzPath(f *testing.F) {
	for _, s := range []string{"<a@b>", `<"a..b"@b> X=1`, "<@r:a@b>", "<>", "<postmaster>", `<"a\"b"@c>`, "a@b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, path string) {
		mailbox, _, err := Path("TO:"+path, "TO:")
		if err != nil {
			return
		}
		written := "TO:<" + Mailbox(mailbox) + ">"
		again, params, err := Path(written+" NOTIFY=NEVER", "TO:")
		if local, _ := SplitMailbox(mailbox); local == "" && mailbox != "" {
			return // `""@domain`, which no caller lets pass
		}
		if err != nil || again != mailbox || params != " NOTIFY=NEVER" {
			t.Errorf("%q is %q, written %q, and read again as %q with %q (%v)", path, mailbox, written, again, params, err)
		}
	})
}

func TestParams(t *testing.T) {
	got, err := Params(" SIZE=10 body=8bitmime\tSMTPUTF8  X-A=b=c")
	want := []Param{{"SIZE", "10"}, {"BODY", "8bitmime"}, {"SMTPUTF8", ""}, {"X-A", "b=c"}}
	if err != nil || len(got) != len(want) {
		t.Fatalf("got %q, %v", got, err)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("got %q, want %q", got[i], want[i])
		}
	}
	for _, s := range []string{" =x", " -X=1", " SIZE=1 size=2", " X_Y=1", " ü=1"} {
		if got, err := Params(s); err == nil {
			t.Errorf("%q was read as %q", s, got)
		}
	}
}

func TestORCPT(t *testing.T) {
	for value, want := range map[string][2]string{
		"rfc822;bob@b.example":            {"rfc822", "bob@b.example"},
		"RFC822;bob+2Btag@b.example":      {"RFC822", "bob+tag@b.example"},
		"rfc822;M+FCller@b.example":       {"rfc822", "M\xFCller@b.example"},
		"rfc822;b+C3+B3b@b.example":       {"rfc822", "bób@b.example"},
		"x400;/C+3DGB/A+3DX/S+3DBob/":     {"x400", "/C=GB/A=X/S=Bob/"},
		"unknown;bob":                     {"unknown", "bob"},
		"X-LOCAL;bob":                     {"X-LOCAL", "bob"},
		`utf-8;b\x{F3}b@b.example`:        {"utf-8", "bób@b.example"},
		`utf-8;\x{65E5}\x{2B}\x{5C}x@b.e`: {"utf-8", `日+\x@b.e`},
		"rfc822;":                         {"rfc822", ""},
	} {
		kind, address := DecodeORCPT(value)
		if string(kind) != want[0] || address != want[1] {
			t.Errorf("%q: got %q %q, want %q", value, kind, address, want)
		}
		if again := EncodeORCPT(kind, address, false); again != value {
			t.Errorf("%q is written as %q", value, again)
		}
	}
	for value, want := range map[string]string{ // broken values are still passed on, in a form that can be read
		"rfc822;a+b":   "rfc822;a+2Bb",
		"rfc822;a+ZZb": "rfc822;a+2BZZb",
		"bob":          "bob",
		";bob":         ";bob",
		`utf-8;\x{ZZ}`: `utf-8;\x{5C}x{ZZ}`,
		`utf-8;\x{65`:  `utf-8;\x{5C}x{65`,
	} {
		kind, address := DecodeORCPT(value)
		if got := EncodeORCPT(kind, address, false); got != want {
			t.Errorf("%q is written as %q, want %q", value, got, want)
		}
	}
	if got := EncodeORCPT(smtp.DSNAddressTypeUTF8, "bób@b", true); got != "UTF-8;bób@b" {
		t.Errorf("unitext: %q", got)
	}
}

// A decoded value is encoded as one word that means the same.
func FuzzORCPT(f *testing.F) {
	for _, s := range []string{"rfc822;a@b", "utf-8;\\x{F3}", "x400;+3D", ";", "utf-8;ü", "rfc822;+"} {
		f.Add(s, true)
	}
	f.Fuzz(func(t *testing.T, value string, unitext bool) {
		kind, address := DecodeORCPT(value)
		if strings.ContainsAny(string(kind), " \t\r\n=") {
			t.Skip("the server refuses such a type")
		}
		written := EncodeORCPT(kind, address, unitext)
		kind2, address2 := DecodeORCPT(written)
		if kind2 != kind || string([]rune(address2)) != string([]rune(address)) {
			if kind != "" { // what was not an ORCPT value is text
				t.Errorf("%q is %q %q, written %q, and read again as %q %q", value, kind, address, written, kind2, address2)
			}
		}
		if strings.ContainsAny(strings.TrimPrefix(written, string(kind)), " \t\r\n") {
			t.Errorf("%q is written as %q", value, written)
		}
	})
}
