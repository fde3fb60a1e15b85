package cipher

import (
	"fmt"
	"net/mail"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/qkdmail/qkdmail/cipher/rawheader"
)

func TestFormatAddresses(t *testing.T) {
	tests := []struct{ name, in, want string }{
		// RFC 5322 §3.4
		{"address", "a@x.org", "a@x.org"},
		{"in brackets", "<a@x.org>", "a@x.org"},
		{"name", "Ann Example <a@x.org>", `"Ann Example" <a@x.org>`},
		{"quoted name", `"Example, \"Ann\" <b@y.org>" <a@x.org>`, `"Example, \"Ann\" <b@y.org>" <a@x.org>`},
		{"name without a blank", "Ann<a@x.org>", `"Ann" <a@x.org>`},
		{"name in pieces", `"Ann" B. (c) Example <a@x.org>`, `"Ann B. Example" <a@x.org>`},
		{"encoded words", "=?utf-8?q?J=C3=B6rg?= =?iso-8859-1?q?_M=FCller?= X <a@x.org>", "=?utf-8?q?J=C3=B6rg_M=C3=BCller_X?= <a@x.org>"},
		{"encoded word of a phrase", "=?utf-8?q?J=C3=B6rg=2C_=22M=22?= <a@x.org>", "=?utf-8?b?SsO2cmcsICJNIg==?= <a@x.org>"},
		{"backslash in an encoded word", "=?utf-8?q?=C3=B6=5C?= <a@x.org>", "=?utf-8?b?w7Zc?= <a@x.org>"},
		{"list", "a@x.org, Bob <b@x.org>,c@x.org", `a@x.org, "Bob" <b@x.org>, c@x.org`},
		{"group", "Team: a@x.org, Bob <b@x.org>; , c@x.org", `a@x.org, "Bob" <b@x.org>, c@x.org`},
		{"group with a name of many words", `"The; Team," at (home:) A.B: a@x.org;`, "a@x.org"},
		{"quoted local part", `"a b"@x.org, "a.b"@x.org, "a\"b"@x.org, "a,b@c"@x.org`, `"a b"@x.org, a.b@x.org, "a\"b"@x.org, "a,b@c"@x.org`},
		{"domain literals", "a@[192.0.2.1], <b@[IPv6:2001:db8::1]>, c@[ 192.0.2.2 ]", "a@[192.0.2.1], b@[IPv6:2001:db8::1], c@[192.0.2.2]"},
		{"comments", "(x) a@x.org (y), <b@x.org> (z)", `"y" <a@x.org>, b@x.org`},
		{"comment for a name", `a@x.org (Ann "A" (or so\)) Example) (x)`, `"Ann \"A\" (or so)) Example" <a@x.org>`},
		{"comment in encoded words", "a@x.org (=?utf-8?q?J=C3=B6?= =?utf-8?q?rg?=)", "=?utf-8?q?J=C3=B6rg?= <a@x.org>"},

		// RFC 5322 §4.4
		{"source routes", "<@a.org,@b.org:c@x.org>, Bob < @ a . org (x) , , @b.org, : (y) d@x.org >", `c@x.org, "Bob" <d@x.org>`},
		{"empty items", ",, a@x.org , (nobody) ,; b@x.org,", "a@x.org, b@x.org"},
		{"blanks and comments around dots", "a (x) . b\t@ (y(z)) x . (.) org", "a.b@x.org"},
		{"words with dots", `"a"."b".c@x.org, "a b".c@x.org`, `a.b.c@x.org, "a b.c"@x.org`},
		{"appendix A.5", `Pete(A nice \) chap) <pete(his account)@silly.test(his host)>`, `"Pete" <pete@silly.test>`},

		// Separators
		{"semicolons", "a@x.org; Bob <b@x.org>;c@x.org;", `a@x.org, "Bob" <b@x.org>, c@x.org`},
		{"group that does not end", "A Group:Ed <e@x.org>,b@x.org", `"Ed" <e@x.org>, b@x.org`},
		{"group in a group", "g: h: a@x.org, b@x.org;", "b@x.org"},
		{"separators in quotes, comments and brackets", `"a, b; c: d" <a@x.org>, (e, f; g: h) b@x.org (i, j), "k;"@x.org`, `"a, b; c: d" <a@x.org>, "i, j" <b@x.org>, "k;"@x.org`},
		{"quoted comma without quotes", `a\,b@x.org, c@x.org`, "c@x.org"},

		// One broken item does not spoil the others.
		{"name without brackets", "Joe <j@x.org>, Plain One p@x.org, q@x.org", `"Joe" <j@x.org>, q@x.org`},
		{"two at signs", "a@b.org@x.org, a@@x.org, <a@b.org@x.org>, ann@x.org", "ann@x.org"},
		{"dots", "a..b@x.org, .c@x.org, d.@x.org, e@x..org, f@.x.org, g@x.org., h@x.org", "h@x.org"},
		{"no local part or domain", "@x.org, a@, <>, <@x.org>, <a@>, \"\"@x.org, a@[], b@x.org", "b@x.org"},
		{"words side by side", `a b@x.org, a(x)b@x.org, "a"b@x.org, c@x .org .de, c@x org, d@x.org`, "c@x.org.de, d@x.org"},
		{"two in one item", "a@x.org b@x.org, <c@x.org> <d@x.org>, <e@x.org>f@x.org, g@x.org <h@x.org>, i@x.org", "h@x.org, i@x.org"},
		{"after the brackets", "<a@x.org>.evil.org, <b@x.org>>, <c@x.org> (x), d@x.org", "c@x.org, d@x.org"},
		{"brackets without end or start", "a@x.org>, <<b@x.org>>, c@x.org", "c@x.org"},
		{"not in brackets", "<a@x.org, b@x.org>, <mailto:c@x.org>, <\"d@x.org\">, e@x.org", "e@x.org"},
		{"broken routes", "<@a.org@b.org:c@x.org>, <@a.org c@x.org>, <@:d@x.org>, <@a..b:e@x.org>, <:f@x.org>, g@x.org", "g@x.org"},
		{"no address", "root, \"a@x.org\", 'Bob', b@x.org", "b@x.org"},
		{"8-bit addresses", "j\u00F6rg@x.org, info@b\u00FCcher.org, J\u00F6rg j\u00F6rg@x.org, <a@\u00FC>, ann@x.org", "ann@x.org"},
		{"8-bit names", "J\u00F6rg <a@x.org>, J\xF6rg <b@x.org>, c@x.org (\u00FC)", "=?utf-8?q?J=C3=B6rg?= <a@x.org>, =?utf-8?q?J=C3=B6rg?= <b@x.org>, =?utf-8?q?=C3=BC?= <c@x.org>"},
		{"control characters", "a\x00b@x.org, a@x.org\r.evil.org, \"a\tb\"@x.org, \x7Fc@x.org, d@x.org", "d@x.org"},
		{"domain literals that are not in SMTP", "a@[x,y], b@[1@2], c@[\\1], d@[\u00FC], e@x.org", "e@x.org"},
		{"encoded words in an address", "=?utf-8?q?a?=@x.org, <=?utf-8?q?a=40x.org?=>, b@x.org", "b@x.org"},
		{"too long", strings.Repeat("a", 320) + "@x.org, " + strings.Repeat("a.", 40_000) + "b@x.org, c@x.org", "c@x.org"},

		// Names that are left out
		{"sloppy name", "Foo [bar] <a@x.org>, Foo@home <b@x.org>, C) <c@x.org>, A\\B <d@x.org>", "a@x.org, b@x.org, c@x.org, d@x.org"},
		{"unknown charset", "=?utf-7?Q?x?= <p@x.org>, q@x.org (=?utf-7?Q?x?=), \"Ann\" <a@x.org>", `p@x.org, q@x.org, "Ann" <a@x.org>`},
		{"encoded words without an encoding", "=?utf-8?\"?qx?= <a@x.org>, \"i@x.org", ""},
		{"separators in place of an encoding", "=?utf-8?,?q?= <a@x.org>, =?utf-8?:?q?= <b@x.org>, =?utf-8?<?q?=> <c@x.org>, d@x.org", "a@x.org, b@x.org, d@x.org"},
		{"broken encoded words", "=?utf-8?b?a?= <a@x.org>, =?utf-8?q?Foo,_Bar?= <b@x.org>", "a@x.org, b@x.org"},

		// Things that open and never close
		{"bracket", "a@x.org, Bob <b@x.org, c@x.org", "a@x.org"},
		{"bracket before another", "a@x.org, Bob <b@x.org, Carl <c@x.org>, d@x.org", "a@x.org"},
		{"quote", `a@x.org, "Bob <b@x.org>, c@x.org`, "a@x.org"},
		{"quote in the middle", `a@x.org, Bob "B <b@x.org>, c@x.org`, "a@x.org"},
		{"quote in brackets", `a@x.org, <"b@x.org>, c@x.org`, "a@x.org"},
		{"quote that is quoted", `a@x.org, "Bob\" <b@x.org>, c@x.org`, "a@x.org"},
		{"quoted quote outside of quotes", `a@x.org, \"x, b@x.org, y" <c@x.org>, d@x.org`, "a@x.org"},
		{"comment", "a@x.org, b@x.org (Bob; Bobby, c@x.org", "a@x.org"},
		{"nested comment", "a@x.org, b@x.org (Bob (x), c@x.org", "a@x.org"},
		{"comment whose end is quoted", `a@x.org, b@x.org (Bob\), c@x.org`, "a@x.org"},
		{"domain literal", "a@x.org, b@[192.0.2.1, c@x.org", "a@x.org"},
		{"quote in a domain literal", `a@x.org, b@["x]>, c@x.org, "Carl" <d@x.org>`, "a@x.org"},
		{"quoted quote in a domain literal", `a@x.org, b@[\"x], c@x.org`, "a@x.org"},
		{"comment in a domain literal", `a@x.org, b@[(x], c@x.org (Carl)`, "a@x.org"},
		{"bracket in a domain literal", `a@x.org, b@[<x], c@x.org`, "a@x.org"},
		{"quote before anything", `"a@x.org, b@x.org`, ""},
	}
	for _, tt := range tests {
		if got := formatAddresses(tt.in, &EncryptOptions{}); got != tt.want {
			t.Errorf("%s: %.200q became\n%s, want\n%s", tt.name, tt.in, got, tt.want)
		}
	}
}

func TestFormatAddressesUTF8(t *testing.T) {
	for in, want := range map[string]string{
		"j\u00F6rg@b\u00FCcher.org, J\u00F6rg <j\u00F6rg@x.org>": "j\u00F6rg@b\u00FCcher.org, =?utf-8?q?J=C3=B6rg?= <j\u00F6rg@x.org>",
		"j\xF6rg@x.org, a@x.org":                                 "a@x.org", // Latin-1 or not: unknown
		"a\u00A0b@x.org, a\u200Bb@x.org, a\u202Eb@x.org":         "",        // some read these as blanks
		"J\u00F6rg j\u00F6rg@x.org":                              "",
	} {
		if got := formatAddresses(in, &EncryptOptions{UTF8: true}); got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
	}
}

func TestFormatRecipients(t *testing.T) {
	const undisclosed = "undisclosed-recipients:;"
	for in, want := range map[string]string{
		"undisclosed-recipients:;":            undisclosed,
		"undisclosed recipients:":             undisclosed,
		"(x) a: (y), ; b:,;":                  undisclosed,
		"g: a@x.org;":                         "a@x.org",
		"g: root;":                            "",
		"g:; root":                            "",
		"g:; \"":                              "",
		"":                                    "",
		" , ;":                                "",
		"undisclosed-recipients:; a@x.org":    "a@x.org",
		":;":                                  "",
		"a@x.org:;":                           "",
		"undisclosed-recipients:;, \"Bob\"":   "",
		"\"undisclosed\" recipients (none):;": undisclosed,
	} {
		if got := formatRecipients(in, &EncryptOptions{}); got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
	}
}

// wordWithSeparator is an encoded word that contains an address separator.
var wordWithSeparator = regexp.MustCompile(`=\?[^?]*\?[^?]\?[^ \t]*[,;:@]`)

// FuzzAddresses checks that every address in the output is a whole item of the
// input, and that net/mail reads the same addresses in the output.
func FuzzAddresses(f *testing.F) {
	for _, in := range []string{
		"a@x.org, Bob <b@x.org>; c@x.org (Carl)", `g: "a b"."c"@x.org, <@r,@s:d@[192.0.2.1]>;`, `a\,b@x.org, "x\"y" <c@x.org>`,
		"a (x) . b @ (y) x . org, a@b@c, <a@b> <c@d>", "a@[1, b@x.org", "J\u00F6rg <a@x.org>, j\xF6rg@x.org", "=?utf-7?q?x?= <a@x.org>, \"b@x.org",
		"a(x)b@x.org, a..b@x.org, root, <a@x.org>.evil.org",
		"=?utf-8?q?\"x?= <a@x.org>, \"b@x.org", "=?utf-8?q?(x?= <a@x.org>, (b@x.org", "=?utf-8?q?x,y@z.org:?= <a@x.org>, b@x.org",
		"=?utf-7?b?xg= <a@x.org>,  b@x.org", "=?utf-8?\"?qx?= <a@x.org>, \"i@x.org",
		`a@[x"y]>z, b@x.org, "c`,
	} {
		f.Add(in, false)
		f.Add(in, true)
	}
	f.Fuzz(func(t *testing.T, in string, utf8Allowed bool) {
		usable := func(list []*mail.Address) string {
			var out []string
			for _, a := range list {
				if usableAddress(a.Address, utf8Allowed) {
					out = append(out, a.Address)
				}
			}
			return strings.Join(out, " | ")
		}
		list, _ := parseAddresses(in)
		flat := flatten(in)
		for _, a := range list {
			if !usableAddress(a.Address, utf8Allowed) {
				continue
			}
			at := strings.LastIndexByte(a.Address, '@')
			whole := regexp.QuoteMeta(flatQuoted(a.Address[:at]) + a.Address[at:])
			if !regexp.MustCompile(`(^|[,;:<])` + whole + `($|[,;>])`).MatchString(flat) {
				t.Fatalf("%q: address %q is not a whole item of it: flattened it is %q", in, a.Address, flat)
			}
		}
		separated := wordWithSeparator.MatchString(in) // net/mail takes these for separators
		if theirs, err := mail.ParseAddressList(in); err == nil && !separated && usable(theirs) != usable(list) {
			t.Fatalf("%q has the addresses %s, but net/mail reads %s", in, usable(list), usable(theirs))
		}

		out := formatAddresses(in, &EncryptOptions{UTF8: utf8Allowed})
		if again, _ := parseAddresses(out); usable(again) != usable(list) {
			t.Fatalf("%q became %q with the addresses %s, want %s", in, out, usable(again), usable(list))
		}
		if theirs, err := mail.ParseAddressList(out); err == nil && usable(theirs) != usable(list) || err != nil && out != "" && !strings.Contains(out, "@[") {
			t.Fatalf("%q became %q, in which net/mail reads the addresses %s, %v; want %s", in, out, usable(theirs), err, usable(list))
		}
		if !utf8.ValidString(out) || !utf8Allowed && strings.ContainsFunc(out, func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Fatalf("%q became %q, which is not in the right character set", in, out)
		}
	})
}

// flatten returns an address list in which each of ,;:<> is a separator: without
// comments, quotes and blanks around separators, and with quoted characters hidden.
func flatten(s string) string {
	var b strings.Builder
	for s != "" {
		n := 1
		_, comment := rawheader.Comment(s)
		text, quoted := rawheader.QuotedString(s)
		switch {
		case comment > 0:
			n = comment
			b.WriteByte(' ')
		case quoted > 0:
			n = quoted
			b.WriteString(flatQuoted(text))
		case s[0] == '\\' && len(s) > 1:
			n = 2
			b.WriteString("?")
		default:
			b.WriteByte(s[0])
		}
		s = s[n:]
	}
	return strings.Trim(blanksAround.ReplaceAllString(b.String(), "$1"), " \t")
}

var blanksAround = regexp.MustCompile(`[ \t]*([][.@<>,;:])[ \t]*`)

// flatQuoted escapes what has another meaning outside quotes.
func flatQuoted(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		if c <= ' ' || strings.IndexByte(`()<>[]:;@\,"`, c) >= 0 {
			fmt.Fprintf(&b, "{%02X}", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}
