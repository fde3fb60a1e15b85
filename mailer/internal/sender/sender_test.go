package sender_test

import (
	"encoding/base64"
	"fmt"
	"maps"
	"net/mail"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/cipher/rawheader"
	"github.com/qkdmail/qkdmail/mailer"
	"github.com/qkdmail/qkdmail/mailer/internal/address"
	"github.com/qkdmail/qkdmail/mailer/internal/mailtest"
	"github.com/qkdmail/qkdmail/mailer/internal/sender"
	"github.com/qkdmail/qkdmail/mailer/relay/config"
)

// disguises are Froms that some mail program shows, or may show, as alice@a.example.
func disguises() []string {
	b := base64.StdEncoding.EncodeToString
	return []string{
		// Encoded words that a strict decoder gives up on, or in places where they are
		// not allowed.
		"=?utf-8?Q?alice=40a=2Eexample?=",
		"=? utf-8 ? Q ?alice=40a=2Eexample?=",
		"=?utf-8?Q?alice=40a=2Eexample?= =?x?Q?_?=",
		"alice@=?utf-8?Q?a=2Eexample?= =?x?Q?_?=",
		"=?utf-8?B?YWxpY2VAYS5leGFtcGxlIA?=",
		"=?utf-8*en?Q?alice=40a.example?=",
		"=?utf-8?B?YWxpY2VAYS5leGFtcGxl=?= <evil@x.example>",
		"\"=?utf-8?Q?alice=40a.example?=\" <evil@x.example>",
		"(=?utf-8?Q?alice=40a.example?=) <evil@x.example>",
		"alice@a=?utf-8?Q?=2Eexample?=",
		"=?utf-8?Q?alice?= =?utf-8?Q?=40a.example?=",
		"=?utf-8?Q?alice?==?utf-8?Q?=40a.example?=",
		"=?utf-8?Q?alice=40a.exam?= =?utf-8?B?cGxl?=",
		"=?utf-8?Q?alice=40a.exam?=\r\n =?iso-8859-1?Q?ple?=",
		"=?UTF-8?q?alice=40a.example",
		"=?utf-8?Q?alice@a.example?=",
		"=?utf-8?Q?al ice@a.example?= <evil@x.example>",
		"=?utf-8?B?YWxpY2VA YS5leGFtcGxl?= <evil@x.example>",
		"=?utf-8?B?" + strings.ReplaceAll(b([]byte("alice@a.example>>>???")), "/", "_") + "?= <evil@x.example>",
		"=?utf-8?B?" + b([]byte("alice@")) + "=" + b([]byte("a.example")) + "?= <evil@x.example>",
		"=?us-ascii?Q?=61lice=40=61=2E=65xample?= <evil@x.example>",
		"=?utf-8?Q?=3D=3Futf-8=3FQ=3Falice=3D40a=2Eexample=3F=3D?= <evil@x.example>",
		"=?iso-2022-jp?B?" + b([]byte("alice@a.example")) + "?= <evil@x.example>",
		"=?utf-16be?B?" + b([]byte("\x00a\x00@\x00a\x00.\x00e\x00x\x00a\x00m\x00p\x00l\x00e")) + "?= <evil@x.example>",
		// What no program here can decode may be anything to another program.
		"=?utf-7?Q?alice+AEA-a.example?= <evil@x.example>",
		"=?x-unknown?B?YWJjZGVm?= <evil@x.example>",
		"=?utf-8?Z?YWJjZGVm?= <evil@x.example>",
		"evil@x.example, " + strings.Repeat("x@y.example,", 6000),
		// Characters that are not shown, or shown as others.
		"al\u00adice@a.ex\u00adample",
		"alice@a.exam\u200bple",
		"\u202aalice@a.example\u202c",
		"alice@\u2060a.example",
		"alice\uff20a.example <evil@x.example>",
		"alice@\uff41\uff0e\uff45xample",
		"alice@a\u3002example",
		"=?utf-8?Q?alice=40a=2Eex=E2=80=8Bample?= <evil@x.example>",
		"\"alice\\@a.example\" <evil@x.example>",
		"\"alice@a\\.example\" <evil@x.example>",
		"alice@a\ufe0f.example",
		// And the plain ways.
		"alice @ a . example",
		"alice@(not x.example) a.example",
		"Alice <alice@a.example>, evil@x.example",
		"evil@x.example\r\nFrom: alice@a.example",
		"<@a.example:evil@x.example>",
	}
}

// evasions are Froms that mail programs may show differently. Some show an address in the
// domain of one letter, which is a % here, and ".example".
func evasions(letter string) []string {
	word := func(charset, text string) string {
		return "=?" + charset + "?B?" + base64.StdEncoding.EncodeToString([]byte(strings.ReplaceAll(text, "%", letter))) + "?="
	}
	long := strings.Repeat("a", 120)
	var many strings.Builder
	for i := range sender.MaxDomains + 1 {
		fmt.Fprintf(&many, "a@%d.y,", i)
	}
	list := []string{
		// Parentheses that are not comments, and comments within a domain.
		`"Alice (" <alice@(x)%.example>`, `"(" <alice@(x)%.example> ")"`, `"Alice \"(" <alice@%(x).example>`,
		`=?utf-8?Q?=28?= <alice@(x)=?utf-8?Q?%.example?=> =?utf-8?Q?=29?=`, `Alice :( <alice@(:)%.example>`, `alice@((x)%.example`,
		`alice@(\()%.example`, `alice@(\)(x)%.example`, `alice@(()%.example`, `alice@(x(y)z)%.exa(m)mple`, `alice@%.ex(x)(y)ample`,
		`")" <alice@(a)(b)%.example> "("`, `alice@(@evil.example)%.example`, `alice@(x, y; z: t)%.example`,
		// Quotation marks within an address, which jsmime drops.
		`Alice <alice@"%.example">`, `Alice <alice@"%".example>`, `alice@"%"."example"`, `"alice"@"%.exam"ple`, `alice@'%.example'`, `alice@"%.\example"`,
		`"alice@%.exam""ple" <evil@x.example>`, `alice"@"%.example <evil@x.example>`, `"alice""@%""."example <evil@x.example>`,
		`"alice@%.exam" "ple" <evil@x.example>`, `"alice@%.exam"ple <evil@x.example>`, `"alice@\"%.example\"" <evil@x.example>`,
		// Blanks within a label, which Python deletes.
		`Alice <alice@%.exam ple>`, "Alice <alice@%.exam\tple>", "Alice <alice@%.exam\r\n ple>", `alice@%.e x a m p l e`, "alice@% .exam\u00a0ple", "alice@%.exam\u3000ple",
		`=?utf-8?Q?alice=40%.exam_ple?= <evil@x.example>`, "alice@%.exam\u2003(x) \u2028ple", `alice @ %. exam =?utf-8?Q?ple?=`,
		// A domain with more after it.
		`"alice@%.example. CEO" <evil@x.example>`, `"alice@%.example .CEO" <evil@x.example>`, `"alice@%.example CEO" <evil@x.example>`, `"alice@%.example... CEO" <evil@x.example>`,
		`"alice@%.example.\" CEO" <evil@x.example>`, `alice@%.example.(CEO) <evil@x.example>`, `"alice@%.example!CEO" <evil@x.example>`, `"alice@%.example/CEO.x" <evil@x.example>`,
		`=?utf-8?Q?alice=40%.example?=CEO <evil@x.example>`, `=?utf-8?Q?alice=40%.example.?= =?utf-8?Q?CEO?= <evil@x.example>`, `alice@..%..example`, `alice@.%.example`,
		`alice@[%.example]`, `alice@<%.example>`, `alice@%.exam<>ple`, `alice@evil@%.example@x.example`,
		// Encoded words that are longer than they may be.
		`=?utf-8*` + long + `?Q?alice=40%=2Eexample?= <evil@x.example>`, `=?utf-8` + strings.Repeat(" ", 100) + `?Q?alice=40%=2Eexample?= <evil@x.example>`,
		`=?utf-8?` + strings.Repeat(" ", 200) + `Q?alice=40%=2Eexample?= <evil@x.example>`, `=?utf-8?Q?` + strings.Repeat("_", 200) + `alice=40%=2Eexample?= <evil@x.example>`,
		`=?x-` + long + `?Q?alice=40%=2Eexample?= <evil@x.example>`, `=?utf-8?Quoted?alice=40%=2Eexample?= <evil@x.example>`, `=?utf-8?Base64?YWxpY2U?= <evil@x.example>`,
		`=?"utf-8"?Q?alice=40%=2Eexample?= <evil@x.example>`,
		// Charsets that no program here has, or in which nothing is what it looks like.
		word("iso-2022-kr", "alice@%.example") + " <evil@x.example>", word("csiso2022kr", "alice@%.example"), word("iso-2022-cn", "x"), word("hz-gb-2312", "alice@~{#a~}.example"),
		word("iso-2022-jp-2", "alice@%.example"), word("utf-16", "\xff\xfea\x00"), word("utf-32", "a"), word("cp037", "\x81\x7c"), word("utf-7", "alice+AEA-%.example"), word("unicode-1-1-utf-7", "x"), word("replacement", "x"),
		// Controls.
		"\"alice@%.exam\x7fple\" <evil@x.example>", "alice@%.exam\x01ple", "alice@%.exam\x1b[Dple", "alice@%.exam\u0085ple", "alice\b@%.example", "evil\x0calice@%.example",
		`=?utf-8?Q?alice=40%=2Eexam=01ple?= <evil@x.example>`, `=?utf-8?Q?alice=40%=2Eexam=00ple?= <evil@x.example>`, `=?utf-8?Q?alice=40%=2Eexam=0D=0Aple?= <evil@x.example>`,
		`=?iso-8859-1?Q?alice=40%=2Eexam=9Aple?= <evil@x.example>`, word("us-ascii", "alice@%.exam\x00\x08ple"), word("utf-8", "evil\r\nFrom: alice@%.example"),
		// Directions.
		"\"\u202eelpmaxe.%@ecila\" <evil@x.example>", "\u2067alice\u2069 <evil@x.example>", "\u2066x", "\u202dx", "\u202bx", word("utf-8", "\u202eelpmaxe"),
		"=?utf-8?Q?=E2=80=AEelpmaxe?=", "\u200f%.example\u200f@\u200falice <evil@x.example>", "\"\u05d0 %.example@\u061calice\"", "\u200fexample.\u200f%@\u200falice",
		// Bytes that are not text.
		"\"alice@%.exam\xffple\" <evil@x.example>", "alice@%.exam\xc0\xafple", "alice@%.exam\xed\xa0\x80ple", "\xe9 <evil@x.example>", `=?utf-8?Q?alice=40%=2Eexam=FFple?=`, `=?utf-8?Q?alice=40%=2Eexam=C3?=ple`,
		word("iso-2022-jp", "alice@%.exam\x1b$B") + " " + word("iso-2022-jp", "ple") + " <evil@x.example>", word("iso-2022-jp", "alice@\x1b$B"), word("iso-2022-jp", "x\x1b(I"),
		word("iso-2022-jp", "x\x1b"), word("shift_jis", "alice\x83") + " " + word("shift_jis", "@%.example"), word("euc-jp", "alice\x8f"), word("gb18030", "alice\x81\x30"),
		// Too much.
		strings.Repeat("x@y.example, ", 700), strings.Repeat("\r\n ", 3000) + "alice@%.example", many.String(), strings.Repeat("@(", 2000),
		// No From, as some programs see it.
		"\r\nSender: alice@%.example", "nobody\r\nSender: alice@%.example", "(x@x.example)\r\nSender: alice@%.example", "\"x@x.example\"\r\nSender: Alice <alice@%.example>",
		"undisclosed:;\r\nSender: alice@%.example", "joe@x.example\r\nFrom:\r\nSender: alice@%.example", "<>\r\nSender: evil@x.example\r\nsender : alice@(x)%.example", "\r\nSender: \x01",
	}
	for i := range list {
		list[i] = strings.ReplaceAll(list[i], "%", letter)
	}
	return list
}

// TestSenders checks that the domain of everything that a mail program may show as the
// sender is found.
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
		found := map[string]bool{}
		for _, d := range sender.Read([]byte("To: c@z.example\r\nFrom: " + in + "\r\n\r\n")).Domains {
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
		s := sender.ReadValues(in)
		if want == "" && len(s.Domains) > 0 || want != "" && !slices.Contains(s.Domains, want) {
			t.Errorf("%s: %q, want %q", strings.ReplaceAll(in, blanks, " … "), s.Domains, want)
		}
		if s.Work() > 3*len(in) {
			t.Errorf("%s: %d steps", strings.ReplaceAll(in, blanks, " … "), s.Work())
		}
	}
}

// No number of fields hides a From.
func TestManyFields(t *testing.T) {
	header := strings.Repeat("a:\r\n", 50_000) + "From: ceo@x.example\r\n\r\n"
	if got := sender.Read([]byte(header)).Domains; !slices.Contains(got, "x.example") {
		t.Errorf("domains of the sender %q, want x.example", got)
	}
}

// Plain mail that may be shown as a peer's is refused, whatever its From is made of, and
// so is what one peer sends as another or as us.
func TestDisguisedSender(t *testing.T) {
	mailtest.NoLeaks(t)
	hop, r, c := mailtest.Start(t, mailer.DirectionDecrypt, func(c *config.Config) { c.Site.Domains = []string{"b.example"} })
	for _, from := range slices.Concat(disguises(), evasions("a")) {
		plain := "From: " + from + "\r\nTo: bob@b.example\r\nSubject: x\r\n\r\nhi\r\n"
		if got := c.Mail(plain, "bounce@x.example", "bob@b.example"); !strings.HasPrefix(got, "550 5.7.1") {
			t.Errorf("in clear, From: %.80q: %s", from, got)
		}
		inner := strings.Replace(mailtest.Text, "Alice <alice@a.example>", from, 1)
		sealed := mailtest.Seal(t, r.KM, inner, func(o *cipher.EncryptOptions) { o.SAE = "SAE_C" })
		if got := c.Mail(sealed, "x@c.example", "bob@b.example"); !strings.HasPrefix(got, "550 5.7.1") {
			t.Errorf("from peer C, From: %.80q: %s", from, got)
		}
	}
	ours := evasions("b")
	for _, from := range disguises() {
		if our := strings.Replace(strings.ReplaceAll(from, "a.example", "b.example"), "a=2Eexample", "b=2Eexample", 1); our != from {
			ours = append(ours, our)
		}
	}
	for _, from := range ours {
		inner := strings.Replace(mailtest.Text, "Alice <alice@a.example>", from, 1)
		if got := c.Mail(mailtest.Seal(t, r.KM, inner), "alice@a.example", "bob@b.example"); !strings.HasPrefix(got, "550 5.7.1") {
			t.Errorf("from peer A in our name, From: %.80q: %s", from, got)
		}
	}
	if got := c.Mail(mailtest.Seal(t, r.KM, mailtest.Text), "ceo@b.example", "bob@b.example"); !strings.HasPrefix(got, "550 5.7.1") {
		t.Errorf("from peer A with our envelope sender: %s", got)
	}
	hop.None()
	if log := r.Log.String(); !strings.Contains(log, `reason="own domain"`) || !strings.Contains(log, `reason="unreadable sender"`) || !strings.Contains(log, `reason="another peer's domain"`) {
		t.Error("the log does not have all three reasons")
	}
}

// Mail from elsewhere passes, and so does a peer's own.
func TestUndisguisedSender(t *testing.T) {
	mailtest.NoLeaks(t)
	hop, r, c := mailtest.Start(t, mailer.DirectionDecrypt, func(c *config.Config) { c.Site.Domains = []string{"b.example"} })
	for _, from := range []string{
		"joe@x.example", "=?utf-8?Q?J=C3=B6rg_M=C3=BCller?= <joerg@x.example>", "=?iso-2022-jp?B?GyRCO2UbKEI=?= <x@x.example>",
		"\"What=? ever? Really?\" <joe@x.example>", "a.example <joe@x.example>", "=?gb2312?B?xOO6ww==?= <x@x.example>", "=?windows-1252?Q?=80?= <x@x.example>",
		"=?koi8-r?Q?=D0?= <x@x.example>", "joe%a.example@x.example", "\u200bjoe@x.example", "Alice at a.example <joe@x.example>", "",
		"\"Bob Smith\" <bob@d.example>", "\"joe@x.example\" <joe@x.example>", "\"joe@x.example via list\" <list@x.example>", "joe@x.example (Joe (a.example))", "joe@a.example.com", "joe@a.example.co.uk", "joe@xa.example", "joe@sub.a.example",
		"\"Smith, Joe (a.example)\" <joe@x.example>", "joe@x.example, \"a.example\" <mary@y.example>", "\"joe\\@x.example\" <joe@x.example>", "=?iso-8859-1?Q?O=92Brien?= <joe@x.example>", "=?us-ascii?Q?a=09b?= <joe@x.example>",
		"=?utf-8?B?4oCc?= =?utf-8?B?w7w=?= <joe@x.example>", "=?utf-8?B?" + base64.StdEncoding.EncodeToString([]byte("J\xc3")) + "?= =?utf-8?B?" + base64.StdEncoding.EncodeToString([]byte("\xb6rg")) + "?= <joe@x.example>",
		"\u05d0\u05dc\u05d9\u05e1 <joe@x.example>", "\u200f\u05d0\u05dc\u05d9\u05e1\u200f <joe@x.example>", "=?windows-1256?B?48Y=?= <joe@x.example>", "Joe\r\n <joe@x.example>", "Joe\t<joe@x.example>", "\"Joe :-) (\" <joe@x.example>", "MAILER-DAEMON@x.example (Mail Delivery System)",
		"joe@x.example\r\nSender: alice@a.example", "Joe <joe@x.example>\r\nResent-From: alice@a.example", strings.Repeat("Joe Smith <joe@x.example>, ", 100) + "joe@x.example",
	} {
		if got := c.Mail("From: "+from+"\r\nTo: bob@b.example\r\n\r\nhi\r\n", "bounce@x.example", "bob@b.example"); !strings.HasPrefix(got, "250") {
			t.Errorf("From: %q: %s", from, got)
		}
		inner := strings.Replace(mailtest.Text, "Alice <alice@a.example>", from, 1)
		if got := c.Mail(mailtest.Seal(t, r.KM, inner), "alice@a.example", "bob@b.example"); !strings.HasPrefix(got, "250") {
			t.Errorf("from peer A, From: %q: %s", from, got)
		}
	}
	// If no domain is a peer's, there is nothing to protect.
	r = mailtest.StartRelay(t, mailer.DirectionDecrypt, hop.Addr(), func(c *config.Config) {
		for i := range c.Peers {
			c.Peers[i].Domains = nil
		}
	})
	c = mailtest.Connect(t, r)
	c.Want("250", c.Mail("From: =?x-unknown?Q?x?= <x@x.example>\r\n\r\nhi\r\n", "bounce@x.example", "bob@b.example"))
}

// TestSenderOfCorpus: the senders of real and hostile messages can be read and are found,
// except in these.
func TestSenderOfCorpus(t *testing.T) {
	unreadable := map[string]string{
		"13f1858423d03319": "a byte that is not UTF-8",
		"1710b5571be64ec6": "a byte that is not UTF-8",
		"1b3cd7439e830729": "bytes that are not UTF-8",
		"3c788686bc3f9624": "a byte that is not UTF-8",
		"3fd53da37977c739": "a byte that is not UTF-8",
		"14545f7a74b42b46": "an encoded word of a line feed",
		"3042054de0b0d92e": "a control character",
		"3b87d2e903d841e1": "a control character",
	}
	external := os.Getenv("QKDMAIL_CORPUS")
	if external == "" {
		external = filepath.Join("..", "..", "..", "..", "shared", "corpus")
	}
	files, err := filepath.Glob(filepath.Join(external, "*.eml"))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Skipf("SKIPPED: no messages in %s", external)
	}
	for _, file := range files {
		message, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		end, _ := rawheader.End(message, rawheader.Lenient)
		s := sender.Read(message[:end])
		name := strings.TrimSuffix(filepath.Base(file), ".eml")
		if why := unreadable[name]; s.Readable != (why == "") {
			t.Errorf("%s: readable %v (%s)", name, s.Readable, why)
		}
		addresses, _ := mail.ParseAddressList(fromOf(message[:end]))
		for _, a := range addresses {
			if d := address.Domain(a.Address); d != "" && !slices.ContainsFunc(s.Domains, func(found string) bool { return address.Normal(found) == d }) {
				t.Errorf("%s: %s is not among %q", name, d, s.Domains)
			}
		}
		if len(s.Domains) > sender.MaxDomains/10 || s.Work() > sender.MaxWork/10 {
			t.Errorf("%s: %d domains and %d steps: near the bounds", name, len(s.Domains), s.Work())
		}
	}
}

// fromOf returns the first From of a header.
func fromOf(header []byte) string {
	f, _ := rawheader.First(header, rawheader.Lenient, "From")
	return f.Text()
}

// FuzzSender hides an address in a From, and looks for it.
func FuzzSender(f *testing.F) {
	f.Add("alice", "x", uint8(0))
	f.Add("=?utf-8?Q?", "\u200b", uint8(7))
	f.Fuzz(func(t *testing.T, before, within string, how uint8) {
		if strings.ContainsAny(before+within, "\r\n\x00()\\@") || strings.Contains(within, "?") {
			return
		}
		addr := "@a.example"
		switch how % 4 {
		case 1:
			addr = "=?utf-8?B?" + base64.RawStdEncoding.EncodeToString([]byte("x@a.example")) + "?="
		case 2:
			addr = "=?UTF-8*" + strings.Trim(fmt.Sprintf("%.4q", within), "\" ?=") + "?q?=40a=2eexample?="
		case 3:
			addr = "@a.ex\u00ad\u200dample"
		}
		for _, text := range []string{before + " x" + addr, before + addr + " " + within, "\"" + before + addr + "\" <x@y.example>"} {
			s := sender.ReadValues(text)
			found := !s.Readable
			for _, d := range s.Domains {
				found = found || strings.HasPrefix(address.Normal(d), "a.example")
			}
			if !found {
				t.Errorf("%q: a.example was not found", text)
			}
		}
	})
}

// FuzzSenderWork checks that any bytes are read with bounded work.
func FuzzSenderWork(f *testing.F) {
	for _, from := range evasions("a") {
		f.Add(from)
	}
	for _, piece := range []string{"=?utf-8?q?a ", "=?", "=?x?q?=3D=3Fx=3Fq=3Fa_ ", "@(", "@)", "(@", "@a ", "\ufdfa@", "\u05d0@a ", "=?gb18030?b?YWFh ", "=?utf-8?q?@a.b ", "?=?"} {
		f.Add(strings.Repeat(piece, sender.MaxSender/len(piece)))
	}
	f.Fuzz(func(t *testing.T, from string) {
		s := sender.ReadValues(from)
		for _, d := range s.Domains {
			address.Normal(d)
		}
		if len(from) > sender.MaxSender {
			return // Read lets no such text pass
		}
		// Each of some 13 readings, at most three times as long by its charset and 11
		// times by NFKC, is begun even if there is no time left for it.
		if limit := sender.MaxWork + 13*33*2*sender.MaxSender; s.Work() > limit || len(s.Domains) > sender.MaxDomains {
			t.Errorf("%d steps for %d bytes, %d domains", s.Work(), len(from), len(s.Domains))
		}
		if readings := sender.Decodings(from); len(readings) > 1+4*sender.MaxNested {
			t.Errorf("%d readings", len(readings))
		}
	})
}

// BenchmarkSender: twice the text takes twice the time.
func BenchmarkSender(b *testing.B) {
	for _, piece := range []string{"=?utf-8?q?a ", "=?", "@a "} {
		for _, size := range []int{sender.MaxSender / 2, sender.MaxSender} {
			from := strings.Repeat(piece, size/len(piece))
			b.Run(fmt.Sprintf("%q/%d", piece, size), func(b *testing.B) {
				b.SetBytes(int64(len(from)))
				for b.Loop() {
					sender.ReadValues(from)
				}
			})
		}
	}
}
