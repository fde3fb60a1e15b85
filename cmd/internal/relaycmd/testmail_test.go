package relaycmd

import (
	"strings"
	"testing"
)

// TestOurs reads the output of "postqueue -j": it finds the message to the recipient and
// its bounce, but no other mail.
func TestOurs(t *testing.T) {
	m := testMail{from: "postmaster@a.example", address: "bob@b.example"}
	queue := `{"queue_name": "deferred", "queue_id": "WAITS", "sender": "postmaster@a.example", "recipients": [{"address": "bob@b.example", "delay_reason": "451 4.7.5 No key left"}]}
{"queue_name": "active", "queue_id": "BOUNCE", "sender": "MAILER-DAEMON", "recipients": [{"address": "postmaster@a.example"}]}
{"queue_name": "active", "queue_id": "OTHER1", "sender": "alice@a.example", "recipients": [{"address": "bob@b.example"}]}
{"queue_name": "active", "queue_id": "OTHER2", "sender": "MAILER-DAEMON", "recipients": [{"address": "alice@a.example"}]}
{"queue_name": "active", "queue_id": "OTHER3", "sender": "postmaster@a.example", "recipients": [{"address": "carol@b.example"}]}
no JSON
`
	var ids []string
	for _, q := range m.ours([]byte(queue)) {
		ids = append(ids, q.ID+" "+q.reason())
	}
	if got, want := strings.Join(ids, ", "), "WAITS 451 4.7.5 No key left, BOUNCE "; got != want {
		t.Errorf("ours are %q, want %q", got, want)
	}
}
