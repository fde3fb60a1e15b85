package cipher

import (
	"encoding/hex"
	"errors"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/qkdmail/qkdmail/cipher/rawheader"
)

// TestNormalRecipient: an address without a normal form equals no other, so that nobody
// gets somebody else's mail.
func TestNormalRecipient(t *testing.T) {
	for address, want := range map[string]string{
		"bob@b.example":                 "bob@b.example",
		"Bob@B.Example.":                "bob@b.example",
		"bob+news@b.example":            "bob+news@b.example",
		"BÜro@b.example":                "bÜro@b.example", // only A to Z
		"bob@bücher.example":            "bob@xn--bcher-kva.example",
		"bob@BÜCHER.example":            "bob@xn--bcher-kva.example",
		"bob@XN--BCHER-KVA.example":     "bob@xn--bcher-kva.example",
		"bob@straße.example":            "bob@xn--strae-oqa.example", // not strasse: non-transitional
		"bob@STRAẞE.example":            "bob@straẞe.example",        // strasse or straße, depending on the version of Unicode
		"bob@例え。テスト。":                   "bob@xn--r8jz45g.xn--zckzah",
		"Postmaster":                    "postmaster",
		"bob@[192.0.2.1]":               "bob@[192.0.2.1]",
		"bob@[IPv6:2001:DB8::1]":        "bob@[ipv6:2001:db8::1]",
		"bob@[IPv6:2001:db8:0::1]":      "bob@[ipv6:2001:db8:0::1]", // as text, not by value
		"Bob Smith@b.example":           `"bob smith"@b.example`,
		"bob..smith@b.example":          `"bob..smith"@b.example`,
		".bob@b.example":                `".bob"@b.example`,
		`bob"\@b.example`:               `"bob\"\\"@b.example`,
		"bob@b.example@evil.example":    `"bob@b.example"@evil.example`,
		"@evil.example:bob@b.example":   `"@evil.example:bob"@b.example`, // a source route was removed before
		`"bob"@b.example`:               `"\"bob\""@b.example`,           // so were quotes
		"@b.example":                    `""@b.example`,
		"bob@":                          "bob@",
		"bob@.":                         "bob@",
		"bob@b.example..":               "bob@b.example",
		"":                              `""`,
		"bob@-ü.example":                "bob@-ü.example", // no A-label
		"bob@_x.bücher.example":         "bob@_x.bücher.example",
		"bob@b＠evil.example":            "bob@b＠evil.example",
		"B\xfeb@b.example":              "b\xfeb@b.example",
		"bob@\xfe.example":              "bob@\xfe.example",
		"bob@\u00ad":                    "bob@",
		"bob@ⓑ.example":                 "bob@b.example",
		"bob@b.example ":                "bob@b.example ",
		"bob@" + strings.Repeat(".", 9): "bob@",
	} {
		if got := normalRecipient(address); got != want {
			t.Errorf("%q becomes %q, want %q", address, got, want)
		}
	}
}

// TestRecipientDigest: the digests in the vectors, some of which the page quotes, are
// those of the addresses as net/mail and go-smtp give them.
func TestRecipientDigest(t *testing.T) {
	digests := map[string]string{} // by path and normal form
	for line := range strings.Lines(readText(t, "../testdata/vectors/addresses.txt")) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		path, normal, want := f[0], f[1], f[2]
		digests[path+" "+normal] = want
		address := addressIn(path)
		digest := recipientDigest(address)
		if got := normalRecipient(address); got != normal || hex.EncodeToString(digest[:]) != want {
			t.Errorf("%s says %q and becomes %q with digest %x, want %q with %s", path, address, got, digest, normal, want)
		}
	}
	rows := regexp.MustCompile("(?m)^\\| `(<.*>)` \\| `(.*)` \\| `([0-9a-f]{32})` \\|$").FindAllStringSubmatch(readText(t, "../docs/format.md"), -1)
	for _, row := range rows {
		if digests[row[1]+" "+row[2]] != row[3] {
			t.Errorf("docs/format.md has %s, which addresses.txt lacks", row[0])
		}
	}
	if len(rows) < 10 {
		t.Errorf("%d addresses in docs/format.md", len(rows))
	}
}

func readText(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// addressIn returns the address in a path of RCPT TO, as a server does.
func addressIn(path string) string {
	address := strings.Trim(path, "<>")
	if strings.HasPrefix(address, "@") {
		_, address, _ = strings.Cut(address, ":")
	}
	if text, n := rawheader.QuotedString(address); n > 0 {
		return text + address[n:]
	}
	return address
}

// FuzzNormalRecipient reads the normal form of an address as a server reads RCPT TO,
// and normalises the result: the form must be the same.
func FuzzNormalRecipient(f *testing.F) {
	for _, s := range []string{"Bob@B.example.", `a"b\@x`, "a@b@BÜCHER.example", "@x", "x@。.", "a b@[IPv6:::1]", "é\xff@\xff", `"a"@b`, "a@xn--ü"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, address string) {
		normal := normalRecipient(address)
		again, domain := normal, ""
		if text, n := rawheader.QuotedString(normal); n > 0 {
			again, domain = text+normal[n:], normal[n:]
		} else if at := strings.IndexByte(normal, '@'); at >= 0 {
			domain = normal[at:]
		}
		if got := normalRecipient(again); got != normal {
			t.Errorf("%q becomes %q, which says %q and becomes %q", address, normal, again, got)
		}
		if domain != "" && domain[0] != '@' || strings.LastIndexByte(domain, '@') > 0 {
			t.Errorf("%q becomes %q: it is unclear where its domain begins", address, normal)
		}
		if strings.ContainsAny(normal, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") || strings.HasSuffix(domain, ".") {
			t.Errorf("%q becomes %q", address, normal)
		}
		if other := normalRecipient(lowerASCII(address)); other != normal {
			t.Errorf("%q becomes %q, in lower case %q", address, normal, other)
		}
	})
}

// TestCheckRecipients refuses what RCPT TO can't have named, but accepts any local part
// that can be written in quotes.
func TestCheckRecipients(t *testing.T) {
	for _, a := range []string{"", "<bob@b.example>", "Bob <bob@b.example>", "bob@b.example ", "bob@b\r\n", "bob\x00@b", "bob@\tb"} {
		if err := checkRecipients([]string{"a@b.example", a}); !errors.Is(err, ErrOptions) || strings.Contains(err.Error(), "bob@b\r") {
			t.Errorf("%q: error %v, want %v without the address", a, err, ErrOptions)
		}
	}
	for _, a := range []string{"postmaster", `b o"b<@b.example`, "bob@[IPv6:::1]", "bob@bücher.example", "a@b@c"} {
		if err := checkRecipients([]string{a}); err != nil {
			t.Errorf("%q: %v", a, err)
		}
	}
	many := slices.Repeat([]string{"a@b.example"}, MaxRecipients+1)
	if err := checkRecipients(many); !errors.Is(err, ErrOptions) {
		t.Errorf("%d recipients: error %v, want %v", len(many), err, ErrOptions)
	}
	if err := checkRecipients(many[1:]); err != nil {
		t.Errorf("%d recipients: %v", len(many)-1, err)
	}
}

// TestSpelling: spellings become the same if the list has one mailbox for them.
func TestSpelling(t *testing.T) {
	var list Recipients
	for _, a := range []string{"Bob@b.example", "carol@b.example", "Carol@b.example"} {
		list = append(list, recipientDigest(a))
	}
	for address, want := range map[string]string{
		"BOB@B.example.":   "bob@b.example",
		"bob@b.example":    "bob@b.example",
		"CAROL@b.example":  "CAROL@b.example", // it is not known which of the two
		"Dave@b.example":   "Dave@b.example",
		"bob+x@b.example.": "bob+x@b.example.",
	} {
		if got := list.Spelling(address); got != want {
			t.Errorf("the spelling of %s is %s, want %s", address, got, want)
		}
	}
	if got := Recipients(nil).Spelling("BOB@b.example"); got != "BOB@b.example" {
		t.Errorf("without a list the spelling is %s", got)
	}
}
