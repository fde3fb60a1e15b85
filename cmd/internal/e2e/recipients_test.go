package e2e

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/cmd/internal/relaytest"
)

// TestRecipients sends one message in one transaction to recipients with different
// policies: each suite, in clear, and a peer without keys. Each recipient gets
// their own message and their own answer.
func TestRecipients(t *testing.T) {
	manyRecipients(t, newWorld(t, options{km: etsi(t, nil), rules: otherRecipients}))
}

// otherRecipients are rules for recipients whose mail is not for site B's relay: in
// clear, and for a peer without keys.
const otherRecipients = `
[[peer]]
name = "site-x"
sae = "SAE_X"
domains = ["x.example"]

[[rule]]
domain = "x.example"
peer = "site-x"

[[rule]]
domain = "plain.b.example"
encrypt = "never"
`

func manyRecipients(t *testing.T, w *world) {
	t.Helper()
	to := []string{"pad@b.example", "aes@aes.b.example", "open@plain.b.example", "nokey@x.example"}
	text := []byte("Date: Mon, 01 Jun 2026 10:00:00 +0000\r\nMessage-ID: <1@d.example>\r\nFrom: alice@d.example\r\nTo: all@d.example\r\nSubject: to-all\r\n\r\ntext-to-all\r\n")
	send(t, w.a.ports[portOwn], "alice@d.example", to, text)
	for recipient, suite := range map[string]string{to[0]: "suite=OTP", to[1]: "suite=AES-256-GCM", to[2]: ""} {
		m := w.b.sink.one(t, recipient)
		if !bytes.HasSuffix(m.data, text) || len(m.to) != 1 {
			t.Errorf("for %s, %v:\n%s", recipient, m.to, m.data)
		}
		if suite == "" && bytes.Contains(m.data, []byte("Qkdmail-")) || !bytes.Contains(m.data, []byte(suite)) {
			t.Errorf("for %s, not %q:\n%s", recipient, suite, m.data)
		}
	}
	var open, sealed int
	relaytest.Await(t, 10*time.Second, "three messages on the wire", func() bool { return len(w.ab.messages()) == 3 })
	for _, m := range w.ab.messages() {
		if bytes.Contains(m, []byte("text-to-all")) {
			open++
		} else if bytes.Contains(m, []byte("application/vnd.qkdmail")) {
			sealed++
		}
	}
	if open != 1 || sealed != 2 {
		t.Errorf("on the wire: %d in clear, %d encrypted", open, sealed)
	}
	// One message entered the relay, and one recipient still waits.
	relaytest.Await(t, 10*time.Second, "the recipient without keys in the queue", func() bool { return strings.Contains(w.a.queue(t), to[3]) })
	queue := w.a.queue(t)
	if strings.Contains(queue, to[0]) || strings.Contains(queue, to[1]) || strings.Contains(queue, to[2]) {
		t.Errorf("delivered recipients are still in the queue:\n%s", queue)
	}
	t.Logf("one transaction, four recipients: OTP, AES-256-GCM, in clear, waiting: %s", firstLine(queue, "(host"))
}

func firstLine(text, part string) string {
	for line := range strings.Lines(text) {
		if strings.Contains(line, part) {
			return strings.TrimSpace(line)
		}
	}
	return ""
}
