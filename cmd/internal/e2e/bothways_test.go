package e2e

import (
	"bytes"
	"strings"
	"testing"
)

// setups returns the two ways to decrypt in docs/postfix.md.
func setups() map[string]options {
	return map[string]options{
		"before queue": {},
		"after queue":  {master: map[string]string{"a": "master-after-queue.cf", "b": "master-after-queue.cf"}, decryptBy: "lmtp"},
	}
}

// TestBothWays sends mail in both directions: small, large, in UTF-8, and mail
// that Postfix tends to change.
func TestBothWays(t *testing.T) {
	for name, o := range setups() {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, o)
			bothWays(t, w, mail(fields, 500_000))
			utf8(t, w)
		})
	}
}

// secret is in the body of all mail of bothWays.
const secret = "the-secret-of-the-body"

// fields has header fields that mail systems tend to change or remove.
const fields = "From: Alice\r\nTo: bob\r\nReturn-Path: <x@a.example>\r\nBcc: c@b.example\r\nSubject: s\r\n"

// mail returns messages with this header and with lines of this length, by name.
func mail(head string, line int) map[string]string {
	return map[string]string{
		"small":  head + "\r\n" + secret + "\r\n.\r\n..\r\n",
		"header": head + "X-Long: " + strings.Repeat("x", min(line, 200_000)) + "\r\n\r\n" + secret + "\r\n",
		"lines":  head + "\r\n" + strings.Repeat("y", line) + "\r\n" + strings.Repeat("é", 1000) + "\r\n" + secret + "\r\n",
		"large":  head + "\r\n" + strings.Repeat(secret+strings.Repeat("z", 50)+"\r\n", 30_000_000/74),
	}
}

// bothWays sends messages from each site to the other. They arrive unchanged,
// below one result field, and nothing of them is on the wire.
func bothWays(t *testing.T, w *world, letters map[string]string) {
	t.Helper()
	ways := map[*site]*site{w.a: w.b, w.b: w.a}
	for what, text := range letters {
		for from, to := range ways {
			send(t, from.ports[portOwn], "alice@"+from.domain(), []string{what + "@" + to.domain()}, []byte(text))
		}
	}
	for what, text := range letters {
		for from, to := range ways {
			m := to.sink.one(t, what+"@"+to.domain())
			if above, ok := bytes.CutSuffix(m.data, []byte(text)); !ok {
				t.Errorf("%s from %s: %d bytes sent, %d arrived:\n%.2000q", what, from.name, len(text), len(m.data), m.data)
			} else if fields := bytes.Count(above, []byte("Qkdmail-Result: mail."+to.domain())); fields != 1 {
				t.Errorf("%s: %d result fields, want 1:\n%s", what, fields, above)
			}
			if m.from != "alice@"+from.domain() {
				t.Errorf("%s: from %q", what, m.from)
			}
		}
	}
	if w.ab.saw(secret) || w.ba.saw(secret) {
		t.Error("the body was seen on a wire")
	}
}

// utf8 sends mail with addresses in UTF-8.
func utf8(t *testing.T, w *world) {
	t.Helper()
	c, err := dial(w.a.ports[portOwn])
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	text := "From: álice@a.example\r\nTo: bób@b.example\r\nSubject: grüße\r\n\r\nhellø\r\n"
	if err := c.sendWith("BODY=8BITMIME SMTPUTF8", "álice@a.example", "", []string{"bób@b.example"}, []byte(text)); err != nil {
		t.Fatal(err)
	}
	if m := w.b.sink.one(t, "bób@b.example"); !bytes.HasSuffix(m.data, []byte(text)) || m.from != "álice@a.example" {
		t.Errorf("from %q:\n%s", m.from, m.data)
	}
}
