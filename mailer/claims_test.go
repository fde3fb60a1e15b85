package mailer_test

import (
	"strings"
	"testing"

	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/mailer"
	"github.com/qkdmail/qkdmail/mailer/internal/mailtest"
	"github.com/qkdmail/qkdmail/mailer/relay"
)

// What only looks encrypted is encrypted; what was encrypted here leaves with nothing in
// clear around it.
func TestSealedBypass(t *testing.T) {
	mailtest.NoLeaks(t)
	const clear = "CLEAR TEXT"
	forged := func(keyID string) string {
		return "Qkdmail-Key-ID: " + keyID + "\r\nFrom: mallory@a.example\r\nTo: bob@b.example\r\nSubject: " + clear + "\r\nMIME-Version: 1.0\r\n" +
			"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\n" + clear + "\r\n--b\r\n" +
			"Content-Type: application/vnd.qkdmail\r\n\r\nVersion: 1\r\nSuite: AES-256-GCM\r\nTime: 1\r\nSender-SAE: SAE_A\r\nRecipient-SAE: SAE_B\r\nKey-ID: " + keyID + "\r\n" +
			"--b\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\n" + strings.Repeat("A", 200) + "\r\n--b--\r\n"
	}
	hop := mailtest.StartHop(t)
	km := mailtest.NewKM()
	r := mailtest.StartRelayWith(t, km, mailer.DirectionEncrypt, hop.Addr())
	blind := mailtest.StartRelayWithKeys(t, km, relay.Keys{Source: km}, mailer.DirectionEncrypt, hop.Addr())
	sealed := mailtest.Seal(t, km, mailtest.Text)
	keyID := strings.TrimSpace(strings.TrimPrefix(sealed[:strings.Index(sealed, "\r\n")], "Qkdmail-Key-ID:"))
	forReceiving := mailtest.Seal(t, km, mailtest.Text, func(o *cipher.EncryptOptions) { o.SAE, o.Peer = "SAE_B", "SAE_A" })

	for _, tt := range []struct {
		name, message string
		relay         *mailtest.Relay
		again         bool // encrypted again
	}{
		{"a made-up key", forged("x"), r, true},
		{"a made-up key, in a UUID", forged("9b42e9e2-0a1b-4c2d-8e3f-0123456789ab"), r, true},
		{"our key", forged(keyID), r, false},
		{"our key in another spelling", forged("{" + strings.ToUpper(keyID) + "}"), r, false},
		{"ours", sealed, r, false},
		{"ours, with no claims", sealed, blind, true},
		{"ours, with text above", "X-Note: " + clear + "\r\n" + sealed, r, false},
		{"ours, with text below", sealed + clear + "\r\n", r, false},
		{"ours, with a subject", strings.Replace(sealed, "Subject: [...]", "Subject: "+clear, 1), r, false},
		{"ours, with another note", strings.Replace(sealed, "This message is encrypted", clear, 1), r, false},
		{"ours, with a preamble", strings.Replace(sealed, "\r\n\r\n--", "\r\n\r\n"+clear+"\r\n--", 1), r, false},
		{"from a peer to us", forReceiving, r, true},
	} {
		hop.Forget()
		if reply := mailtest.Connect(t, tt.relay).Mail(tt.message, "mallory@a.example", "bob@b.example"); reply[:3] != "250" {
			t.Errorf("%s: %s", tt.name, reply)
			continue
		}
		got := hop.One().Data
		if strings.Contains(got, clear) {
			t.Errorf("%s: left with\n%s", tt.name, mailtest.Clip(got))
		}
		if again := !strings.Contains(got, keyID) || strings.HasPrefix(tt.name, "from"); again != tt.again {
			t.Errorf("%s: encrypted again: %v, want %v", tt.name, again, tt.again)
		}
		if tt.again && mailtest.Open(t, km, got) != tt.message {
			t.Errorf("%s: another message is inside", tt.name)
		}
	}
}
