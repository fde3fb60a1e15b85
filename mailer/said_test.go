package mailer_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/qkdmail/qkdmail/kmclient/keystore"
	"github.com/qkdmail/qkdmail/mailer"
	"github.com/qkdmail/qkdmail/mailer/internal/mailtest"
	"github.com/qkdmail/qkdmail/mailer/relay/config"
)

// The client hears what the next hop says when it takes a message: its queue ID is the
// next thing to look for. The text is made safe, and a broken reply is not passed on.
func TestNextHopsWordsAreTheReply(t *testing.T) {
	long := strings.Repeat("word ", 1000)
	for hop, want := range map[string]string{
		"250 2.0.0 Ok: queued as 4bZ1":                      "250 2.0.0 Ok: queued as 4bZ1",
		"250 2.6.0 <1@x> Queued mail for delivery":          "250 2.6.0 <1@x> Queued mail for delivery",
		"250 OK id=1abc-0000-2F":                            "250 2.0.0 OK id=1abc-0000-2F",
		"250-2.0.0 Ok:\r\n250 2.0.0 queued as 4bZ1":         "250 2.0.0 Ok: queued as 4bZ1",
		"250 2.0.0 tab\there, \x1b[31mred, \xff, gr\u00fcn": "250 2.0.0 tab?here, ?[31mred, ?, gr?n",
		"250":                                  "250 2.0.0 Ok",
		"250 2.0.0":                            "250 2.0.0 Ok",
		"250 4.2.2 Odd":                        "250 2.0.0 4.2.2 Odd",
		"250 2.0.0 " + long:                    "250 2.0.0 " + long[:400-len("2.0.0 ")],
		"250-2.0.0 queued\r\n550 5.0.0 or not": "250 2.0.0 Ok",
	} {
		mailtest.Directions(t, func(t *testing.T, d mailer.Direction) {
			_, r, c := startWith(t, d, mailtest.Answering("DOT", hop))
			if got := c.Attempt(mailtest.MessageFor(t, d, r.KM)); got != want {
				t.Errorf("the next hop says %.80q; the client hears %.480q, want %.480q", hop, got, want)
			}
		})
	}
}

// Over LMTP the reply for each recipient is what the next hop said for that recipient;
// over SMTP the one reply has everything, once.
func TestNextHopsWordsByRecipient(t *testing.T) {
	each := func(h *mailtest.Hop) {
		h.LMTP = true
		h.Follow(func(line string) string {
			switch {
			case strings.Contains(line, "full@") && strings.HasPrefix(line, "DOT"):
				return "452 4.2.2 full"
			case strings.HasPrefix(line, "DOT"):
				return "250 2.1.5 " + strings.NewReplacer("DOT RCPT TO:", "", "@", " at ").Replace(line) + " saved"
			}
			return ""
		})
	}
	one := mailtest.Answering("DOT", "250 2.0.0 queued as 1")
	toLMTP := func(c *config.Config) { c.NextHops[0].Protocol = config.LMTP }
	for name, tt := range map[string]struct {
		hop    func(*mailtest.Hop)
		config func(*config.Config)
		rcpts  []string
		want   []string
	}{
		"LMTP to LMTP, several groups": {each, mailtest.BothLMTP, []string{"1@b.example", "2@clear.example", "full@b.example", "3@b.example"}, []string{
			"250 2.1.5 <1 at b.example> saved", "250 2.1.5 <2 at clear.example> saved", "452 4.2.2 full", "250 2.1.5 <3 at b.example> saved",
		}},
		"LMTP to SMTP, several groups": {one, mailtest.OverLMTP, []string{"1@b.example", "2@clear.example", "3@b.example"}, slices.Repeat([]string{"250 2.0.0 queued as 1"}, 3)},
		"SMTP to LMTP": {each, toLMTP, []string{"1@b.example", "2@b.example"}, []string{
			"250 2.1.5 <1 at b.example> saved; 2.1.5 <2 at b.example> saved",
		}},
		"SMTP to SMTP": {one, func(*config.Config) {}, []string{"1@b.example", "2@b.example"}, []string{"250 2.0.0 queued as 1"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, c := startWith(t, mailer.DirectionEncrypt, tt.hop, tt.config)
			c.Begin("alice@a.example", tt.rcpts...)
			c.Send(mailtest.Stuffed(mailtest.Text))
			for _, want := range tt.want {
				if got := c.Reply(); got != want {
					t.Errorf("the reply is %q, want %q", got, want)
				}
			}
			if got := c.Cmd("NOOP"); got != "250 2.0.0 Ok" {
				t.Errorf("there was one more reply: %q", got)
			}
		})
	}
}

// However many recipients there are, the one reply is one line.
func TestNextHopsWordsAreBounded(t *testing.T) {
	_, _, c := startWith(t, mailer.DirectionEncrypt, func(h *mailtest.Hop) { h.LMTP = true }, func(c *config.Config) { c.NextHops[0].Protocol = config.LMTP })
	var rcpts []string
	for i := range 100 {
		rcpts = append(rcpts, fmt.Sprintf("user%d@b.example", i))
	}
	got := c.Mail(mailtest.Text, "alice@a.example", rcpts...)
	if !strings.HasPrefix(got, "250 2.0.0 queued as 1-0; ") || len(got) > 510 || strings.Contains(got, "\n") {
		t.Errorf("the reply has %d bytes: %q", len(got), got)
	}
}

// A client that sends a message again because it did not see the 250 is told Ok.
func TestNoWordsWhereNothingWasSent(t *testing.T) {
	mailtest.NoLeaks(t)
	hop := mailtest.StartHop(t, mailtest.Answering("DOT", "250 2.0.0 queued as 1"))
	r, _ := mailtest.StartStored(t, hop.Addr(), keystore.Options{})
	c := mailtest.Connect(t, r)
	message := mailtest.MessageFor(t, mailer.DirectionDecrypt, r.KM)
	for _, want := range []string{"250 2.0.0 queued as 1", "250 2.0.0 Ok"} {
		if got := c.Attempt(message); got != want {
			t.Errorf("the reply is %q, want %q", got, want)
		}
	}
}

// startWith starts a relay in front of a hop with a script, and connects.
func startWith(t *testing.T, d mailer.Direction, hop func(*mailtest.Hop), changes ...func(*config.Config)) (*mailtest.Hop, *mailtest.Relay, *mailtest.Client) {
	t.Helper()
	mailtest.NoLeaks(t)
	h := mailtest.StartHop(t, hop)
	r := mailtest.StartRelay(t, d, h.Addr(), changes...)
	return h, r, mailtest.Connect(t, r)
}
