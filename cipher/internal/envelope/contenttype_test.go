package envelope

import (
	"mime"
	"regexp"
	"strings"
	"testing"
)

func TestReadContentType(t *testing.T) {
	tests := []struct{ name, in, media, boundary string }{
		{"none", "", "text/plain", ""},
		{"plain", "multipart/mixed; boundary=b", "multipart/mixed", "b"},
		{"quoted", `multipart/mixed; boundary="b c"`, "multipart/mixed", "b c"},
		{"case", "MULTIPART/Mixed; BOUNDARY=bB", "multipart/mixed", "bB"},
		{"no multipart", "text/plain; boundary=b", "text/plain", ""},
		{"no slash", "text", "text", ""},
		{"other letters", "multipart/mi\u212Aed; boundary=b", "text/plain", ""},
		{"something after the type", "application/vnd.qkdmail/x", "application/vnd.qkdmail/x", ""},

		// Comments, RFC 2045 §5.1
		{"after the type", "multipart/mixed (by gw); boundary=b", "multipart/mixed", "b"},
		{"without a blank", "multipart/mixed(by gw);boundary=b", "multipart/mixed", "b"},
		{"before the type", "(by gw) multipart/mixed; boundary=b", "multipart/mixed", "b"},
		{"in the type", "multipart (x) / (y) mixed; boundary=b", "multipart/mixed", "b"},
		{"everywhere", "multipart/mixed(a);(b)boundary(c)=(d)b(e);(f)", "multipart/mixed", "b"},
		{"nested, with quoted pairs", `multipart/mixed (a (b\) c;) "); boundary=b`, "multipart/mixed", "b"},
		{"with a parameter in it", "multipart/mixed (; boundary=x); boundary=b", "multipart/mixed", "b"},
		{"in quotes it is none", `multipart/mixed; boundary="b(c)"`, "multipart/mixed", "b(c)"},
		{"one that does not close", "multipart/mixed (by gw; boundary=b", "multipart/mixed", "b"},
		{"one in another parameter", "multipart/mixed; x=(y; boundary=b", "multipart/mixed", "b"},
		{"one after the other", "multipart/mixed; x=((y); (z); boundary=b", "multipart/mixed", "b"},

		// Broken parameters
		{"two semicolons", "multipart/mixed;; charset=us-ascii;; boundary=b;;", "multipart/mixed", "b"},
		{"no value", "multipart/mixed; charset; boundary=b", "multipart/mixed", "b"},
		{"no value at the end", "multipart/mixed; boundary=b; charset", "multipart/mixed", "b"},
		{"empty value", "multipart/mixed; charset=; boundary=b", "multipart/mixed", "b"},
		{"empty quoted value", `multipart/mixed; charset=""; boundary=b`, "multipart/mixed", "b"},
		{"no name", "multipart/mixed; =x; boundary=b", "multipart/mixed", "b"},
		{"slash in a value", "multipart/related; type=multipart/alternative; boundary=b", "multipart/related", "b"},
		{"other specials in a value", `multipart/mixed; x=a@b,[c]:<d>?e=f"g\h; boundary=b`, "multipart/mixed", "b"},
		{"specials in the boundary", "multipart/mixed; boundary=----=_Part:0_1.a/b?c,d+e'f'", "multipart/mixed", "----=_Part:0_1.a/b?c,d+e'f'"},
		{"blank in a value", "multipart/mixed; name=a b c; boundary=b", "multipart/mixed", "b"},
		{"8-bit", "multipart/mixed; name=M\u00FCller; \u00FC=\u00FC; boundary=b", "multipart/mixed", "b"},
		{"8-bit that is no UTF-8", "multipart/mixed; name=M\xFCller; boundary=b", "multipart/mixed", "b"},
		{"control characters", "multipart/mixed;\x00\tname=a\x01; boundary=b\r", "multipart/mixed", "b"},
		{"no semicolon after the type", "multipart/mixed boundary=b", "multipart/mixed", "b"},
		{"comma for a semicolon", "multipart/mixed, boundary=b", "multipart/mixed", "b"},
		{"no semicolon between two", "multipart/mixed; charset=utf-8 boundary=b", "multipart/mixed", "b"},
		{"no semicolon after quotes", `multipart/mixed; charset="utf-8"boundary="b"x=y`, "multipart/mixed", "b"},
		{"blanks around the equals sign", "multipart/mixed; boundary\t =  b", "multipart/mixed", "b"},
		{"blanks around the slash", "multipart / mixed; boundary=b", "multipart/mixed", "b"},
		{"escapes", `multipart/mixed; boundary="a\"b\\c\d"`, "multipart/mixed", `a"b\cd`},
		{"quote that does not close", `multipart/mixed; boundary="b c `, "multipart/mixed", "b c"},
		{"that with a parameter after it", `multipart/mixed; boundary="b; charset=utf-8`, "multipart/mixed", "b"},
		{"another parameter's", `multipart/mixed; charset="utf-8; boundary=b`, "multipart/mixed", "b"},
		{"that with an escape at the end", `multipart/mixed; boundary="b\`, "multipart/mixed", `b\`},
		{"one that the boundary's closes", `multipart/mixed; charset="utf-8; boundary="b"; x=y`, "multipart/mixed", "b"},
		{"one that another closes", `multipart/mixed; charset="utf-8; boundary=b; x="y"`, "multipart/mixed", "b"},
		{"comment with the boundary in it", `multipart/mixed; x=(y; boundary="b"; z=)`, "multipart/mixed", "b"},
		{"parameter in a quoted value", `multipart/mixed; x="; boundary=a"; boundary=b`, "multipart/mixed", "b"},
		{"parameter in quotes for a name", `multipart/mixed; "; boundary=a"; boundary=b`, "multipart/mixed", "b"},
		{"first of two", "multipart/mixed; boundary=b; boundary=c", "multipart/mixed", "b"},
		{"first of two that is not empty", "multipart/mixed; boundary=; BOUNDARY=b", "multipart/mixed", "b"},
		{"name that ends alike", "multipart/mixed; x-boundary=a; boundary=b; boundary2=c", "multipart/mixed", "b"},
		{"no boundary", "multipart/mixed; charset=utf-8", "multipart/mixed", ""},

		// RFC 2231
		{"pieces", `multipart/mixed; boundary*0=ab; boundary*1="c d"`, "multipart/mixed", "abc d"},
		{"pieces in another order and case", "multipart/mixed; Boundary*1=c; x=y; boundary*0=b", "multipart/mixed", "bc"},
		{"a piece is missing", "multipart/mixed; boundary*0=b; boundary*2=c", "multipart/mixed", "b"},
		{"no first piece", "multipart/mixed; boundary*1=c; boundary=b", "multipart/mixed", "b"},
		{"first of two pieces", "multipart/mixed; boundary*0=b; boundary*0=c", "multipart/mixed", "b"},
		{"eleven pieces", "multipart/mixed; boundary*10=k; boundary*0=a; boundary*1=b; boundary*2=c; boundary*3=d; boundary*4=e; boundary*5=f; boundary*6=g; boundary*7=h; boundary*8=i; boundary*9=j", "multipart/mixed", "abcdefghijk"},
		{"character set", "multipart/mixed; boundary*=us-ascii'en'a%20b", "multipart/mixed", "a b"},
		{"another one", "multipart/mixed; boundary*=iso-8859-15''b%3d", "multipart/mixed", "b="},
		{"an empty one", "multipart/mixed; boundary*=''b", "multipart/mixed", "b"},
		{"none", "multipart/mixed; boundary*=b", "multipart/mixed", "b"},
		{"broken percent signs", "multipart/mixed; boundary*=us-ascii''a%2%zz%4", "multipart/mixed", "a%2%zz%4"},
		{"pieces with a character set", "multipart/mixed; boundary*0*=us-ascii''%61; boundary*1=%62; boundary*2*=%63", "multipart/mixed", "a%62c"},
		{"all forms", "multipart/mixed; boundary=a; boundary*0=c; boundary*=us-ascii''b", "multipart/mixed", "b"},
	}
	for _, tt := range tests {
		if got := readContentType(tt.in); got.media != tt.media || got.boundary != tt.boundary {
			t.Errorf("%s: %q is %q with boundary %q, want %q with %q", tt.name, tt.in, got.media, got.boundary, tt.media, tt.boundary)
		}
	}
}

func TestReadProtocol(t *testing.T) {
	for in, want := range map[string]string{
		"multipart/encrypted; protocol=application/x; boundary=b":                    "application/x",
		`multipart/encrypted; boundary=b; Protocol="application/x" (c)`:              "application/x",
		"multipart/encrypted; protocol (c) = application/x(c); boundary=b":           "application/x",
		"multipart/encrypted; protocol=; protocol=application/x y; boundary=b":       "application/x",
		"multipart/encrypted; protocol*0=application; boundary=b; protocol*1=\"/x\"": "application/x",
		"multipart/encrypted; protocol*=utf-8''application%2Fx; boundary=b":          "application/x",
		`multipart/encrypted; protocol="application/x; boundary="b"`:                 "application/x",
		"multipart/encrypted; protocol=application/x; protocol=other; boundary=b":    "application/x",
		"application/octet-stream; protocol=application/x":                           "",
	} {
		if got := readContentType(in).protocol; got != want {
			t.Errorf("%q has protocol %q, want %q", in, got, want)
		}
	}
}

func TestReadEncoding(t *testing.T) {
	for in, want := range map[string]string{
		"": "", "base64": "base64", " BASE64 ": "base64", "base64 (by gw)": "base64", "base64(by gw)": "base64",
		"(by (a) gw) base64": "base64", "base64;": "base64", "base64; x=y": "base64", `"base64"`: "base64",
		"(base64": "(base64", "quoted-printable ": "quoted-printable", "base64x": "base64x",
	} {
		if got := readEncoding(in); got != want {
			t.Errorf("readEncoding(%q) = %q, want %q", in, got, want)
		}
	}
}

// TestLongContentType reads fields as long as a header may be, in which much opens and
// nothing closes. The time must grow in proportion to the length: if it grew with the
// square, the test would take hours.
func TestLongContentType(t *testing.T) {
	for _, piece := range []string{"(", "((x)", `"`, `\"`, `;"`, `;\"`, `="`, "=(", ";(", "(\\", "a=\"b\\\";", "boundary*1=x;", "%", "'", ";", ",", "=", " ", "()", `""`} {
		in := "multipart/mixed; boundary=b; " + strings.Repeat(piece, maxHeader/len(piece))
		if got := readContentType(in); got.boundary != "b" {
			t.Errorf("followed by %q again and again: boundary %q, want %q", piece, got.boundary, "b")
		}
		_ = readContentType(strings.TrimPrefix(in, "multipart/mixed; boundary=b; "))
		_ = readEncoding(in)
	}
}

// FuzzContentType compares with the boundary that mime.ParseMediaType reads, if it
// reads one.
func FuzzContentType(f *testing.F) {
	for _, in := range []string{
		"multipart/mixed; boundary=b", `multipart/mixed (c); boundary="a\"b" ; x=y`, "multipart/mixed; boundary*0*=us-ascii''a%20; boundary*1=b",
		`multipart/mixed;; boundary = "b; x`, "multipart/mixed; boundary*=utf-8'en'a; boundary=b", "multipart/mixed; boundary=b; boundary=b;",
	} {
		f.Add(in)
	}
	f.Fuzz(func(t *testing.T, in string) {
		ours := readContentType(in)
		media, params, err := mime.ParseMediaType(in)
		theirs := params["boundary"]
		switch {
		case err != nil || theirs == "" || !strings.HasPrefix(media, "multipart/"):
			return
		case strings.ContainsFunc(in, func(r rune) bool { return r > '~' }):
			return // readContentType knows only US-ASCII blanks
		case strings.Contains(in, `\`):
			return // mime leaves a backslash before an ordinary character
		case extendedValue.MatchString(in) && !goodExtendedValue.MatchString(in):
			return // mime drops a value that is broken or in an unknown character set
		}
		if ours.media != media || ours.boundary != theirs {
			t.Fatalf("%q is %q with boundary %q; mime.ParseMediaType reads %q with %q", in, ours.media, ours.boundary, media, theirs)
		}
	})
}

var (
	extendedValue     = regexp.MustCompile(`\*\s*=`)
	goodExtendedValue = regexp.MustCompile(`^[^*]*\*(0\*)?=(us-ascii|utf-8)'[a-z]*'(%[0-9a-f]{2}|[a-z0-9])*(;[^*'%]*(\*1=[^*]*)?)?$`)
)
