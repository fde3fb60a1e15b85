package e2e

import (
	"strings"
	"testing"
)

// TestEximTraps shows what some settings in docs/exim.md are for, by leaving them
// out.
func TestEximTraps(t *testing.T) {
	t.Parallel()
	o := withExim(t)
	o.edit = func(_, file, text string) string {
		if file == "exim4.conf" {
			for _, line := range []string{
				"return_path_remove = false\n", "envelope_to_remove = false\n", "delivery_date_remove = false\n",
				"  message_linelength_limit = 1M\n",
			} {
				text = strings.ReplaceAll(text, line, "")
			}
		}
		return text
	}
	w := newWorld(t, o)
	text := "From: alice@a.example\r\nReturn-Path: <x@a.example>\r\nEnvelope-To: x\r\nDelivery-Date: x\r\n\r\n"
	send(t, w.a.ports[portOwn], "alice@a.example", []string{"bob@b.example"}, []byte(text))
	data := string(w.b.sink.one(t, "bob@b.example").data)
	for _, field := range []string{"\nReturn-Path:", "\nEnvelope-To:", "\nDelivery-Date:"} {
		if strings.Contains(data, field) {
			t.Errorf("without the settings, Exim keeps %q", field)
		}
	}
	send(t, w.a.ports[portOwn], "alice@a.example", []string{"carol@b.example"}, []byte(text+strings.Repeat("x", 1000)+"\r\n"))
	if m := w.a.sink.one(t, "alice@a.example"); !strings.Contains(string(m.data), "line") {
		t.Errorf("instead of a bounce for a long line:\n%s", m.data)
	}
}

// TestEximRecipients asks Exim from outside for a recipient that does not exist, and
// for one while its relay is down. Exim refuses both without taking the mail.
func TestEximRecipients(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withExim(t))
	for _, c := range []struct{ recipient, answer string }{
		{"unknown@b.example", "550"},
		{"bob@b.example", "451"},
		{"bob@d.example", "550"}, // no relay for others
	} {
		if c.answer == "451" {
			w.b.kill()
		}
		client, err := dial(w.b.ports[portInternet])
		if err != nil {
			t.Fatal(err)
		}
		if err := client.send("dave@d.example", []string{c.recipient}, nil); err == nil || !strings.HasPrefix(err.Error(), c.answer) {
			t.Errorf("mail for %s: %v, want %s", c.recipient, err, c.answer)
		}
		client.close()
	}
	if q := w.b.queue(t); q != "" {
		t.Errorf("in the queue: %s", q)
	}
}
