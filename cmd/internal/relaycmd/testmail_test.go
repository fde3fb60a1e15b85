package relaycmd

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
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

// TestNoPostfix: without Postfix there is no queue to look at. The step is skipped,
// which is neither a failure nor reported as a success.
func TestNoPostfix(t *testing.T) {
	t.Setenv("PATH", "")
	m := testMail{from: "postmaster@a.example", address: "bob@b.example"}
	m.remember(t.Context())
	step := testStep{"queue", func(ctx context.Context) (string, error) { return m.queue(ctx, time.Second) }}
	for asJSON, want := range map[bool][]string{
		false: {"skipped", "there is no Postfix here"},
		true:  {`"ok":true,"skipped":true`, "there is no Postfix here"},
	} {
		cmd, out := new(cobra.Command), new(strings.Builder)
		cmd.SetContext(t.Context())
		cmd.SetOut(out)
		if err := (&sendTest{asJSON: asJSON}).step(cmd, step); err != nil {
			t.Errorf("the test ends with %v, although a step was only skipped", err)
		}
		for _, part := range want {
			if !strings.Contains(out.String(), part) || strings.HasPrefix(out.String(), "ok") {
				t.Errorf("the line is\n%s, want %q in it, and no ok", out, part)
			}
		}
	}
}
