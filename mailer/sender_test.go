package mailer

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/qkdmail/qkdmail/cipher"
)

// disguises are Froms that some mail program shows as alice@a.example, or may show
// so.
func disguises() []string {
	b := base64.StdEncoding.EncodeToString
	return []string{
		// Encoded words that a strict decoder gives up on, or that stand where they
		// must not.
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
		// What no program here can decode may be anything elsewhere.
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

// Plain mail that may show as a peer's is refused, whatever its From is made of, and
// so is what one peer sends as another or as us.
func TestDisguisedSender(t *testing.T) {
	noLeaks(t)
	hop := startHop(t)
	r := startRelay(t, DirectionDecrypt, hop.addr(), func(c *Config) { c.Site.Domains = []string{"b.example"} })
	c := connect(t, r)
	for _, from := range disguises() {
		plain := "From: " + from + "\r\nTo: bob@b.example\r\nSubject: x\r\n\r\nhi\r\n"
		if got := c.mail(plain, "bounce@x.example", "bob@b.example"); !strings.HasPrefix(got, "550 5.7.1") {
			t.Errorf("in clear, From: %.80q: %s", from, got)
		}
		inner := strings.Replace(testMessage, "Alice <alice@a.example>", from, 1)
		sealed := seal(t, r.km, inner, func(o *cipher.EncryptOptions) { o.SAE = "SAE_C" })
		if got := c.mail(sealed, "x@c.example", "bob@b.example"); !strings.HasPrefix(got, "550 5.7.1") {
			t.Errorf("from peer C, From: %.80q: %s", from, got)
		}
		ours := strings.Replace(strings.ReplaceAll(from, "a.example", "b.example"), "a=2Eexample", "b=2Eexample", 1)
		if ours == from {
			continue
		}
		inner = strings.Replace(testMessage, "Alice <alice@a.example>", ours, 1)
		if got := c.mail(seal(t, r.km, inner), "alice@a.example", "bob@b.example"); !strings.HasPrefix(got, "550 5.7.1") {
			t.Errorf("from peer A in our name, From: %.80q: %s", ours, got)
		}
	}
	if got := c.mail(seal(t, r.km, testMessage), "ceo@b.example", "bob@b.example"); !strings.HasPrefix(got, "550 5.7.1") {
		t.Errorf("from peer A with our envelope sender: %s", got)
	}
	hop.none()
	if log := r.log.String(); !strings.Contains(log, `reason="own domain"`) || !strings.Contains(log, `reason="unreadable sender"`) || !strings.Contains(log, `reason="another peer's domain"`) {
		t.Error("the log does not tell the reasons apart")
	}
}

// Other people's mail passes, and a peer's own.
func TestUndisguisedSender(t *testing.T) {
	noLeaks(t)
	hop := startHop(t)
	r := startRelay(t, DirectionDecrypt, hop.addr(), func(c *Config) { c.Site.Domains = []string{"b.example"} })
	c := connect(t, r)
	for _, from := range []string{
		"joe@x.example", "=?utf-8?Q?J=C3=B6rg_M=C3=BCller?= <joerg@x.example>", "=?iso-2022-jp?B?GyRCO2UbKEI=?= <x@x.example>",
		"\"What=? ever? Really?\" <joe@x.example>", "a.example <joe@x.example>", "=?gb2312?B?xOO6ww==?= <x@x.example>", "=?windows-1252?Q?=80?= <x@x.example>",
		"=?koi8-r?Q?=D0?= <x@x.example>", "joe%a.example@x.example", "\u200bjoe@x.example", "Alice at a.example <joe@x.example>", "",
	} {
		if got := c.mail("From: "+from+"\r\nTo: bob@b.example\r\n\r\nhi\r\n", "bounce@x.example", "bob@b.example"); !strings.HasPrefix(got, "250") {
			t.Errorf("From: %q: %s", from, got)
		}
		inner := strings.Replace(testMessage, "Alice <alice@a.example>", from, 1)
		if got := c.mail(seal(t, r.km, inner), "alice@a.example", "bob@b.example"); !strings.HasPrefix(got, "250") {
			t.Errorf("from peer A, From: %q: %s", from, got)
		}
	}
	// Where no domain is a peer's, nothing is to be protected.
	r = startRelay(t, DirectionDecrypt, hop.addr(), func(c *Config) {
		for i := range c.Peers {
			c.Peers[i].Domains = nil
		}
	})
	c = connect(t, r)
	c.want("250", c.mail("From: =?x-unknown?Q?x?= <x@x.example>\r\n\r\nhi\r\n", "bounce@x.example", "bob@b.example"))
}

// FuzzSender hides an address in a From, and looks for it.
func FuzzSender(f *testing.F) {
	f.Add("alice", "x", uint8(0))
	f.Add("=?utf-8?Q?", "\u200b", uint8(7))
	f.Fuzz(func(t *testing.T, before, within string, how uint8) {
		if strings.ContainsAny(before+within, "\r\n\x00()\\@") || strings.Contains(within, "?") {
			return
		}
		address := "@a.example"
		switch how % 4 {
		case 1:
			address = "=?utf-8?B?" + base64.RawStdEncoding.EncodeToString([]byte("x@a.example")) + "?="
		case 2:
			address = "=?UTF-8*" + strings.Trim(fmt.Sprintf("%.4q", within), "\" ?=") + "?q?=40a=2eexample?="
		case 3:
			address = "@a.ex\u00ad\u200dample"
		}
		for _, text := range []string{before + " x" + address, before + address + " " + within, "\"" + before + address + "\" <x@y.example>"} {
			s := sender{fields: []string{text}}
			found := !s.readable()
			for d := range s.domains() {
				found = found || strings.HasPrefix(normalDomain(d), "a.example")
			}
			if !found {
				t.Errorf("%q: a.example was not found", text)
			}
		}
	})
}
