package mailer_test

import (
	"context"
	"testing"

	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/mailer"
	"github.com/qkdmail/qkdmail/mailer/internal/mailtest"
	"github.com/qkdmail/qkdmail/mailer/relay/config"
)

func TestObserverEncrypt(t *testing.T) {
	mailtest.NoLeaks(t)
	hop, km := mailtest.StartHop(t), mailtest.NewKM()
	r := mailtest.StartRelayWith(t, km, mailer.DirectionEncrypt, hop.Addr())
	seen := &mailtest.Recorder{}
	r.Observe(seen)
	c := mailtest.Connect(t, r)
	c.Want("250", c.Attempt(mailtest.Text))
	got := seen.Last(t, 1)
	if got.Total <= 0 || got.KeyWait <= 0 || got.HopWait <= 0 || got.Total < got.KeyWait || got.Total < got.HopWait {
		t.Errorf("total %v, of which %v for keys and %v for the next hop", got.Total, got.KeyWait, got.HopWait)
	}
	got.Total, got.KeyWait, got.HopWait = 0, 0, 0
	want := mailer.Report{Direction: mailer.DirectionEncrypt, Peer: "bravo", Suite: cipher.SuiteAES256GCM, Outcome: mailer.OutcomeEncrypted, Size: int64(len(mailtest.Text)), Keys: got.Keys, Delivered: 1}
	if got != want || got.Keys < 1 {
		t.Errorf("reported %+v, want %+v with keys", got, want)
	}

	km.OnGet = func(context.Context) error { return kmclient.ErrKeyExhausted }
	c.Want("451 4.7.5", c.Attempt(mailtest.Text))
	got = seen.Last(t, 2)
	if got.Outcome != mailer.OutcomeDeferred || got.Reason != "no key left" || got.Peer != "bravo" || got.HopWait > got.Total {
		t.Errorf("without a key: %+v", got)
	}
	c.Want("250", c.Cmd("RSET"))
	c.Want("250", c.Cmd("MAIL FROM:<a@a.example>"))
	c.Want("553", c.Cmd("RCPT TO:<b\u00fc@b.example>"))
	if got = seen.Last(t, 3); got.Command != "RCPT" || got.Outcome != mailer.OutcomeRefused || got.Reason != "smtputf8" || got.Size != 0 {
		t.Errorf("an address that needs SMTPUTF8: %+v", got)
	}
}

func TestObserverDecrypt(t *testing.T) {
	mailtest.NoLeaks(t)
	km, hop := mailtest.NewKM(), mailtest.StartHop(t)
	r := mailtest.StartRelayWith(t, km, mailer.DirectionDecrypt, hop.Addr(), func(c *config.Config) { c.Peers[0].Inbound = "optional" })
	seen := &mailtest.Recorder{}
	r.Observe(seen)
	encrypted := mailtest.Seal(t, km, mailtest.Text)
	c := mailtest.Connect(t, r)
	c.Want("250", c.Attempt(encrypted))
	got := seen.Last(t, 1)
	if got.KeyWait <= 0 || got.HopWait <= 0 || got.Total < got.KeyWait+got.HopWait {
		t.Errorf("total %v, of which %v for keys and %v for the next hop", got.Total, got.KeyWait, got.HopWait)
	}
	if got.Outcome != mailer.OutcomeDecrypted || got.Suite != cipher.SuiteAES256GCM || got.Peer != "alpha" || got.Size != int64(len(encrypted)) || got.Keys < 1 || got.Reason != "" {
		t.Errorf("reported %+v", got)
	}
	c.Want("250", c.Attempt(mailtest.Text))
	if got := seen.Last(t, 2); got.Outcome != mailer.OutcomePlain || got.Suite != "" || got.Peer != "" {
		t.Errorf("plain mail: %+v", got)
	}
	km.Spoil = func(_ string, key []byte) []byte { key[0] ^= 1; return key }
	c.Want("550 5.7.7", c.Attempt(mailtest.Seal(t, km, mailtest.Text)))
	if got := seen.Last(t, 3); got.Outcome != mailer.OutcomeRefused || got.Reason != "authentication" || got.Peer != "alpha" || got.KeyWait <= 0 || got.HopWait != 0 {
		t.Errorf("with a wrong key: %+v", got)
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
