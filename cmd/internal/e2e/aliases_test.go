package e2e

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/cmd/internal/relaytest"
)

// withAliases gives site B an alias with two recipients, a catch-all, and extensions.
func withAliases(site, file, text string) string {
	if site == "b" && file == "main.cf" {
		text += "\nrecipient_delimiter = +\n" +
			"virtual_alias_maps = inline:{ { team@b.example = bob@b.example carol@b.example }, { @aes.b.example = dave@b.example } }\n"
	}
	return text
}

// TestAliases sends mail to aliases at B. With the lines of docs/postfix.md they are
// expanded after decryption, so each message is restored for the recipient that it is
// sealed for.
func TestAliases(t *testing.T) {
	for name, o := range setups() {
		t.Run(name, func(t *testing.T) {
			o.edit = withAliases
			w := newWorld(t, o)
			for _, tt := range []struct {
				to        string
				delivered []string
			}{
				{"team@b.example", []string{"bob@b.example", "carol@b.example"}},
				{"anyone@aes.b.example", []string{"dave@b.example"}},
				{"team+lists@b.example", []string{"bob+lists@b.example", "carol+lists@b.example"}},
				{"Eve+lists@b.example", []string{"Eve+lists@b.example"}},
			} {
				text := []byte("From: alice@a.example\r\nTo: " + tt.to + "\r\n\r\ntext\r\n")
				send(t, w.a.ports[portOwn], "alice@a.example", []string{tt.to}, text)
				for _, rcpt := range tt.delivered {
					if m := w.b.sink.one(t, rcpt); !bytes.HasSuffix(m.data, text) {
						t.Errorf("mail to %s for %s:\n%s", tt.to, rcpt, m.data)
					}
				}
			}
		})
	}
}

// TestAliasesBeforeDecryption has B expand aliases before the relay sees the message:
// the message bounces, unless the peer's recipients are "any".
func TestAliasesBeforeDecryption(t *testing.T) {
	for _, recipients := range []string{"sealed", "any"} {
		t.Run(recipients, func(t *testing.T) {
			o := setups()["after queue"]
			o.master["a"] = o.master["b"] // both have the same relay.toml
			o.edit = func(site, file, text string) string {
				switch {
				case site == "b" && file == "master.cf":
					text = strings.ReplaceAll(text, "    -o receive_override_options=no_address_mappings\n", "")
				case site == "b" && file == "relay.toml":
					text = strings.Replace(text, "[[peer]]\n", "[[peer]]\nrecipients = \""+recipients+"\"\n", 1)
				}
				return withAliases(site, file, text)
			}
			w := newWorld(t, o)
			text := []byte("From: alice@a.example\r\nTo: team@b.example\r\n\r\ntext\r\n")
			send(t, w.a.ports[portOwn], "alice@a.example", []string{"team@b.example"}, text)
			if recipients == "any" {
				w.b.sink.one(t, "bob@b.example")
				w.b.sink.one(t, "carol@b.example")
				return
			}
			relaytest.Await(t, 30*time.Second, "a bounce at A", func() bool { return len(w.a.sink.to("alice@a.example")) > 0 })
			if m := w.a.sink.to("alice@a.example")[0]; m.from != "" || !bytes.Contains(m.data, []byte("not for this recipient")) {
				t.Errorf("the bounce, from %q, does not say why:\n%s", m.from, m.data)
			}
			if got := w.b.sink.all(); len(got) > 0 {
				t.Errorf("%d messages were delivered at B", len(got))
			}
			if !strings.Contains(w.b.read("relay.log"), "alarm=redirected") {
				t.Error("there is no alarm")
			}
		})
	}
}
