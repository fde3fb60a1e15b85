package mailer_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/mailer"
	"github.com/qkdmail/qkdmail/mailer/internal/mailtest"
	"github.com/qkdmail/qkdmail/mailer/relay/config"
)

// An opportunistic rule with a one-time pad: the key manager runs dry behind
// the first frame.
func TestInClearNeverAfterKeys(t *testing.T) {
	hop := mailtest.StartHop(t)
	km := mailtest.NewKM()
	km.OnStatus = func() (kmclient.Status, error) {
		return kmclient.Status{KeySize: 256, StoredKeys: new(100_000), MaxKeySize: 256, MinKeySize: 64, MaxKeyPerRequest: 8}, nil
	}
	n := 0
	km.OnGet = func(context.Context) error {
		if n++; n > 20 {
			return fmt.Errorf("test: %w", kmclient.ErrKeyExhausted)
		}
		return nil
	}
	r := mailtest.StartRelayWith(t, km, mailer.DirectionEncrypt, hop.Addr(), func(c *config.Config) {
		c.Rules = append([]config.Rule{{Domain: "maybepad.example", Peer: "bravo", Encrypt: mailer.Opportunistic, Suite: "otp"}}, c.Rules...)
	})
	c := mailtest.Connect(t, r)
	reply := c.Mail(mailtest.Text+strings.Repeat("very secret line\r\n", 1000), "alice@a.example", "bob@maybepad.example")
	given, _ := km.Count()
	clear := false
	for _, m := range hop.Got() {
		clear = clear || strings.Contains(m.Data, "very secret line")
	}
	if clear || !strings.HasPrefix(reply, "451") {
		t.Errorf("%q, in clear: %v, with %d keys spent on it", reply, clear, given)
	}
}

// Total is 0 if MAIL was refused, as Report says.
func TestTotalOfRefusedMail(t *testing.T) {
	hop := mailtest.StartHop(t)
	r := mailtest.StartRelay(t, mailer.DirectionEncrypt, hop.Addr())
	seen := &mailtest.Recorder{}
	r.Observe(seen)
	c := mailtest.Connect(t, r)
	c.Want("250", c.Mail(mailtest.Text, "alice@a.example", "bob@b.example"))
	c.Want("55", c.Cmd("MAIL FROM:<alice@a.example> SIZE=4000000000"))
	_ = r.Stop()
	last := seen.Last(t, 2)
	if last.Command == "MAIL" && last.Total != 0 {
		t.Errorf("Total %v of a MAIL that was refused", last.Total)
	}
	t.Logf("%+v", last)
}
