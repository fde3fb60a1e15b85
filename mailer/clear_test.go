package mailer

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/qkdmail/qkdmail/kmclient"
)

// An opportunistic rule with a one-time pad: the key manager runs dry behind
// the first frame.
func TestInClearNeverAfterKeys(t *testing.T) {
	hop := startHop(t)
	km := newTestKM()
	km.status = func() (kmclient.Status, error) {
		return kmclient.Status{KeySize: 256, StoredKeys: new(100_000), MaxKeySize: 256, MinKeySize: 64, MaxKeyPerRequest: 8}, nil
	}
	n := 0
	km.get = func(context.Context) error {
		if n++; n > 20 {
			return fmt.Errorf("test: %w", kmclient.ErrKeyExhausted)
		}
		return nil
	}
	r := startRelayWith(t, km, DirectionEncrypt, hop.addr(), func(c *Config) {
		c.Rules = append([]RuleConfig{{Domain: "maybepad.example", Peer: "bravo", Encrypt: Opportunistic, Suite: "otp"}}, c.Rules...)
	})
	c := connect(t, r)
	reply := c.mail(testMessage+strings.Repeat("very secret line\r\n", 1000), "alice@a.example", "bob@maybepad.example")
	clear := false
	for _, m := range hop.got() {
		clear = clear || strings.Contains(m.data, "very secret line")
	}
	if clear || !strings.HasPrefix(reply, "451") {
		t.Errorf("%q, in clear: %v, with %d keys spent on it", reply, clear, km.given)
	}
}

// Total is 0 if MAIL was refused, says Report.
type reports []Report

func (r *reports) Message(x Report) { *r = append(*r, x) }

func TestTotalOfRefusedMail(t *testing.T) {
	hop := startHop(t)
	r := startRelay(t, DirectionEncrypt, hop.addr())
	var got reports
	r.Observe(&got)
	c := connect(t, r)
	c.want("250", c.mail(testMessage, "alice@a.example", "bob@b.example"))
	c.want("55", c.cmd("MAIL FROM:<alice@a.example> SIZE=4000000000"))
	_ = r.stop()
	last := got[len(got)-1]
	if last.Command == "MAIL" && last.Total != 0 {
		t.Errorf("Total %v of a MAIL that was refused", last.Total)
	}
	t.Logf("%+v", last)
}
