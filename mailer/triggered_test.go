package mailer_test

import (
	"strings"
	"testing"

	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/mailer"
	"github.com/qkdmail/qkdmail/mailer/internal/mailtest"
	"github.com/qkdmail/qkdmail/mailer/relay/config"
)

// withMarks gives a relay one trigger that encrypts and one that takes a pad, both by
// header, and the first by sender too.
func withMarks(c *config.Config) {
	c.Triggers = []config.Trigger{
		{Name: "ceo", From: []string{"ceo@a.example"}, Encrypt: "required"},
		{Name: "secret", Header: "X-Secret", Encrypt: "required"},
		{Name: "pad", Header: "X-Pad", Suite: "otp"},
	}
}

const secret = "X-Secret: yes\r\n" + mailtest.Text

// Over LMTP each recipient gets an answer, and no part of a marked message is in clear.
func TestTriggerEachRecipient(t *testing.T) {
	mailtest.NoLeaks(t)
	hop, r, c := mailtest.Start(t, mailer.DirectionEncrypt, mailtest.OverLMTP, withMarks)
	to := []string{"x@clear.example", "b@b.example", "y@clear.example", "b@maybe.example", "b@auto.example", "c@c.example"}
	if got, want := c.Replies(secret, to...), "550 250 550 250 250 250"; got != want {
		t.Errorf("the replies are %s, want %s", got, want)
	}
	for _, m := range hop.Got() {
		if rcpts := strings.Join(m.Rcpts, " "); strings.Contains(m.Data, "secret body") || strings.Contains(rcpts, "clear.example") {
			t.Errorf("to %s:\n%s", rcpts, m.Data)
		}
	}
	if n := len(hop.Got()); n != 4 {
		t.Errorf("%d messages, want 4", n)
	}
	log := r.Log.String()
	for _, want := range []string{
		`rule=clear.example recipients=2 trigger=secret`, `code=550 reason="no peer"`, `rule=maybe.example recipients=1 trigger=secret`,
	} {
		if !strings.Contains(log, want) {
			t.Errorf("the log does not have %s", want)
		}
	}

	hop.Forget() // the same without the mark
	if got, want := c.Replies(mailtest.Text, to...), "250 250 250 250 250 250"; got != want {
		t.Errorf("unmarked, the replies are %s, want %s", got, want)
	}
}

// The sender's trigger is judged at RCPT, over SMTP too, and routes that it makes the same
// share a message.
func TestTriggerSender(t *testing.T) {
	mailtest.NoLeaks(t)
	hop, r, c := mailtest.Start(t, mailer.DirectionEncrypt, withMarks)
	c.Want("250", c.Cmd("MAIL FROM:<CEO@a.example>"))
	c.Want("550 5.7.1 This message must be sent encrypted, which is not possible for this recipient", c.Cmd("RCPT TO:<x@clear.example>"))
	for _, to := range []string{"b@b.example", "b@maybe.example", "b@anywhere.example"} {
		c.Want("250", c.Cmd("RCPT TO:<"+to+">"))
	}
	c.Want("354", c.Cmd("DATA"))
	c.Send(mailtest.Stuffed(mailtest.Text))
	c.Want("250", c.Reply())
	if m := hop.One(); len(m.Rcpts) != 3 || mailtest.Open(t, r.KM, m.Data) != mailtest.Text {
		t.Errorf("%v got\n%s", m.Rcpts, m.Data)
	}
	if want := `command=RCPT`; !strings.Contains(r.Log.String(), want) || !strings.Contains(r.Log.String(), "trigger=ceo") {
		t.Errorf("the log does not say which trigger refused a recipient")
	}
	c.Want("250", c.Mail(mailtest.Text, "alice@a.example", "x@clear.example")) // the next message is not marked
}

// Over SMTP there is one answer for all recipients.
func TestTriggerOneAnswer(t *testing.T) {
	mailtest.NoLeaks(t)
	hop, _, c := mailtest.Start(t, mailer.DirectionEncrypt, withMarks)
	c.Want("250", c.Cmd("MAIL FROM:<alice@a.example>"))
	c.Want("250", c.Cmd("RCPT TO:<x@clear.example>"))
	c.Want("452", c.Cmd("RCPT TO:<b@b.example>"))
	c.Want("250", c.Cmd("RCPT TO:<y@clear.example>"))
	c.Want("354", c.Cmd("DATA"))
	c.Send(mailtest.Stuffed(secret + strings.Repeat("more\r\n", 100_000)))
	c.Want("550 5.7.1", c.Reply())
	hop.None()
	c.Want("250", c.Mail(secret, "alice@a.example", "b@b.example"))
}

// A pad that a trigger asks for after recipients and size were checked is checked once
// more, before a key is spent.
func TestTriggerPadTooLarge(t *testing.T) {
	mailtest.NoLeaks(t)
	hop := mailtest.StartHop(t, func(h *mailtest.Hop) { h.Extensions = []string{"SIZE 1000000"} })
	r := mailtest.StartRelay(t, mailer.DirectionEncrypt, hop.Addr(), withMarks)
	c := mailtest.Connect(t, r)
	c.Want("250", c.Attempt(mailtest.Text)) // so that the next hop was seen
	hop.Forget()
	r.KM.OnStatus = func() (kmclient.Status, error) {
		return kmclient.Status{KeySize: 256, MaxKeySize: 256, MaxKeyPerRequest: 128}, nil
	}
	before, _ := r.KM.Count()
	for _, want := range []string{"552 5.3.4", "250"} {
		c.Want("250", c.Cmd("MAIL FROM:<a@a.example> SIZE=648000"))
		c.Want("250", c.Cmd("RCPT TO:<b@b.example>"))
		c.Want("354", c.Cmd("DATA"))
		mark := ""
		if want != "250" {
			mark = "X-Pad: yes\r\n"
		}
		c.Send(mailtest.Stuffed(mark + mailtest.Text + strings.Repeat("a line\r\n", 70_000)))
		c.Want(want, c.Reply())
	}
	if after, _ := r.KM.Count(); after != before+1 {
		t.Errorf("%d keys were spent, want 1", after-before)
	}
	hop.One()
}

// What this site has encrypted under AES-256-GCM does not pass for a pad.
func TestTriggerPadAroundAES(t *testing.T) {
	mailtest.NoLeaks(t)
	hop, r, c := mailtest.Start(t, mailer.DirectionEncrypt, withMarks)
	for suite, passes := range map[cipher.Suite]bool{cipher.SuiteAES256GCM: false, cipher.SuiteOTP: true} {
		hop.Forget()
		sealed := "X-Pad: yes\r\n" + mailtest.Seal(t, r.KM, mailtest.Text, func(o *cipher.EncryptOptions) { o.Suite = suite })
		c.Want("250", c.Mail(sealed, "alice@a.example", "b@b.example"))
		in := mailtest.Decrypt(t, r.KM, hop.One().Data)
		if in.Info().Suite != cipher.SuiteOTP {
			t.Errorf("%s left under %s", suite, in.Info().Suite)
		}
		if opened := mailtest.Open(t, r.KM, hop.One().Data); (opened == mailtest.Text) != passes {
			t.Errorf("%s: passed is not %v, inside is\n%s", suite, passes, mailtest.Clip(opened))
		}
	}
}
