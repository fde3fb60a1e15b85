package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/cmd/internal/relaytest"
)

// TestTraps shows what each setting in docs/postfix.md is for, by leaving it
// out.
func TestTraps(t *testing.T) {
	t.Run("bytes", func(t *testing.T) {
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
				t.Errorf("without the settings, this did not happen: %s\n%s", trap, data[max(0, len(data)-4000):])
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
		const secret = "a-secret-that-the-bounce-quotes"
		send(t, w.b.ports[portOwn], "bob@b.example", []string{"alice@a.example"}, []byte("From: bob@b.example\r\n\r\n"+secret+"\r\n"))
		w.a.sink.one(t, "alice@a.example")
		if w.ba.saw(secret) {
			t.Error("the message itself went out in clear")
		}
		send(t, w.a.ports[portOwn], "alice@a.example", []string{"refused@b.example"}, []byte("From: alice@a.example\r\nSubject: "+secret+"\r\n\r\ntext\r\n"))
		relaytest.Await(t, 20*time.Second, "the secret on the wire, for want of default_transport", func() bool { return w.ba.saw(secret) })
	})
}
