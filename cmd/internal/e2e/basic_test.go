package e2e

import (
	"bytes"
	"errors"
	"net/textproto"
	"strings"
	"testing"
	"time"
)

// setups are the two ways of docs/postfix.md to decrypt at site B.
func setups() map[string]options {
	return map[string]options{
		"before queue": {},
		"after queue":  {master: map[string]string{"b": "master-after-queue.cf"}, decryptBy: "lmtp"},
	}
}

// TestBothWays sends mail both ways: small, large, in UTF-8, and such as
// Postfix likes to change.
func TestBothWays(t *testing.T) {
	for name, o := range setups() {
		t.Run(name, func(t *testing.T) {
			if o.decryptBy == "lmtp" {
				o.master["a"] = o.master["b"] // both have the same relay.toml
			}
			w := newWorld(t, o)
			const secret = "the-secret-of-the-body"
			head := "From: Alice\r\nTo: bob\r\nReturn-Path: <x@a.example>\r\nBcc: c@b.example\r\nSubject: s\r\n"
			const large = 20 << 20
			for what, text := range map[string]string{
				"small":  head + "\r\n" + secret + "\r\n.\r\n..\r\n",
				"header": head + "X-Long: " + strings.Repeat("0123456789", 20_000) + "\r\n\r\n" + secret + "\r\n",
				"lines":  head + "\r\n" + strings.Repeat("0123456789", 50_000) + "\r\n" + strings.Repeat("é", 1000) + "\r\n" + secret + "\r\n",
				"large":  head + "\r\n" + strings.Repeat(secret+strings.Repeat("z", 50)+"\r\n", large/74),
			} {
				for from, to := range map[*site]*site{w.a: w.b, w.b: w.a} {
					sender, recipient := "alice@"+from.domain(), what+"@"+to.domain()
					send(t, from.ports[portOwn], sender, []string{recipient}, []byte(text))
					m := to.sink.one(t, recipient)
					if above, ok := bytes.CutSuffix(m.data, []byte(text)); !ok {
						t.Errorf("%s from %s: %d octets sent, arrived %d:\n%.2000q", what, sender, len(text), len(m.data), m.data)
					} else if fields := bytes.Count(above, []byte("Qkdmail-Result: mail."+to.domain())); fields != 1 {
						t.Errorf("%s: %d results:\n%s", what, fields, above)
					}
					if m.from != sender {
						t.Errorf("%s: from %q", what, m.from)
					}
				}
			}
			utf8(t, w)
			if w.ab.saw(secret) || w.ba.saw(secret) {
				t.Error("it was seen on a wire")
			}
		})
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

// TestArriving sends B what the other site's relay did not make: before the
// queue, a refusal reaches who sends, and no mail is made of it.
func TestArriving(t *testing.T) {
	w := newWorld(t, options{})
	const secret = "the-secret"
	send(t, w.a.ports[portOwn], "alice@a.example", []string{"bob@b.example"}, []byte("From: alice@a.example\r\n\r\n"+secret+"\r\n"))
	w.b.sink.one(t, "bob@b.example")
	sealed := w.ab.messages()[0]
	payload := bytes.LastIndex(sealed, []byte("base64\r\n\r\n")) + 30
	altered := bytes.Clone(sealed)
	altered[payload] ^= 3
	for _, c := range []struct {
		what, from string
		text       []byte
		code       int
		enhanced   string
	}{
		{"an altered payload", "alice@a.example", altered, 550, "5.7.7"},
		{"mail in clear in the name of a peer", "mallory@d.example", []byte("From: alice@a.example\r\n\r\nx\r\n"), 550, "5.7.1"},
		{"mail in clear with a peer's envelope", "alice@a.example", []byte("From: mallory@d.example\r\n\r\nx\r\n"), 550, "5.7.1"},
		{"a report in clear in the name of a peer", "", []byte("From: postmaster@a.example\r\n\r\nx\r\n"), 550, "5.7.1"},
	} {
		client, err := dial(w.b.ports[portInternet])
		if err != nil {
			t.Fatal(err)
		}
		err = client.send(c.from, []string{"bob@b.example"}, c.text)
		var reply *textproto.Error
		if !errors.As(err, &reply) || reply.Code != c.code || !strings.HasPrefix(reply.Msg, c.enhanced) {
			t.Errorf("%s: %v, must be %d %s", c.what, err, c.code, c.enhanced)
		}
		client.close()
	}
	plain := "From: dave@d.example\r\nX-A: 1\r\n"
	send(t, w.b.ports[portInternet], "dave@d.example", []string{"open@b.example"},
		[]byte("Qkdmail-Result: mail.b.example; decrypt=pass\r\n"+plain+"qkdmail-result: another\r\n\r\nx\r\n"))
	m := w.b.sink.one(t, "open@b.example")
	if !bytes.HasSuffix(m.data, []byte(plain+"\r\nx\r\n")) || bytes.Contains(bytes.ToLower(m.data), []byte("qkdmail-result")) {
		t.Errorf("plain mail:\n%s", m.data)
	}
	time.Sleep(time.Second)
	if n := len(w.b.sink.to("bob@b.example")); n != 1 || len(w.a.sink.all()) != 0 || !w.b.queueEmpty(t) {
		t.Errorf("%d messages for bob, %d at A, or one in B's queue", n, len(w.a.sink.all()))
	}
}

// TestTraps shows why the settings of docs/postfix.md are needed: it leaves
// them out.
func TestTraps(t *testing.T) {
	t.Run("octets", func(t *testing.T) {
		w := newWorld(t, options{edit: func(site, file, text string) string {
			if file != "master.cf" {
				return text
			}
			without := []string{
				"    -o local_header_rewrite_clients=\n", "    -o cleanup_service_name=qkd-cleanup\n",
				"    -o lmtp_line_length_limit=0\n", "    -o smtp_line_length_limit=0\n",
			}
			if site == "b" {
				// A mail store without 8BITMIME.
				text = strings.Replace(text, "postfix/qkd-deliver\n", "postfix/qkd-deliver\n    -o smtp_discard_ehlo_keywords=8bitmime,smtputf8\n", 1)
				without = []string{"    -o disable_mime_output_conversion=yes\n"}
			}
			for _, line := range without {
				text = strings.ReplaceAll(text, line, "")
			}
			return text
		}})
		send(t, w.a.ports[portOwn], "alice@a.example", []string{"bob@b.example"},
			[]byte("From: Alice <alice@a.example>\r\nTo: bob\r\nBcc: carol@b.example\r\nReturn-Path: <x@a.example>\r\n"+
				"X-Long: "+strings.Repeat("x", 150_000)+"\r\nMIME-Version: 1.0\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"+
				strings.Repeat("y", 2000)+"\r\né\r\n"))
		data := string(w.b.sink.one(t, "bob@b.example").data)
		_, data, _ = strings.Cut(data, "client.invalid")
		for trap, fell := range map[string]bool{
			"Bcc dropped":          !strings.Contains(data, "\nBcc:"),
			"Return-Path dropped":  !strings.Contains(data, "\nReturn-Path:"),
			"address completed":    strings.Contains(data, "To: bob@mail.a.example"),
			"Date added":           strings.Contains(data, "\nDate:"),
			"Message-ID added":     strings.Contains(data, "\nMessage-Id:"),
			"header field cut":     strings.Count(data, "x") < 150_000,
			"long lines broken":    !strings.Contains(strings.ReplaceAll(data, "=\r\n", ""), strings.Repeat("y", 2000)),
			"8-bit text converted": strings.Contains(data, "quoted-printable"),
		} {
			if !fell {
				t.Errorf("%s: it was not so:\n%s", trap, data[max(0, len(data)-4000):])
			}
		}
	})

	t.Run("bounce in clear", func(t *testing.T) {
		w := newWorld(t, options{edit: func(site, file, text string) string {
			if site != "b" {
				return text
			}
			if file == "main.cf" {
				_, nexthop, _ := strings.Cut(text, "default_filter_nexthop = ")
				nexthop, _, _ = strings.Cut(nexthop, "\n")
				before, after, _ := strings.Cut(text, "default_transport = ")
				filter, after, _ := strings.Cut(after, "\n")
				return before + "default_transport = smtp:" + nexthop + "\ncontent_filter = " + filter + "\n" + after
			}
			return text
		}})
		const secret = "a-secret-that-the-bounce-tells"
		send(t, w.b.ports[portOwn], "bob@b.example", []string{"alice@a.example"}, []byte("From: bob@b.example\r\n\r\n"+secret+"\r\n"))
		w.a.sink.one(t, "alice@a.example")
		if w.ba.saw(secret) {
			t.Error("even what is sent went out in clear")
		}
		send(t, w.a.ports[portOwn], "alice@a.example", []string{"refused@b.example"}, []byte("From: alice@a.example\r\n\r\n"+secret+"\r\n"))
		await(t, 20*time.Second, "the secret on the wire, as it comes without default_transport", func() bool { return w.ba.saw(secret) })
	})
}
