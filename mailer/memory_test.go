package mailer_test

import (
	"strings"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/mailer"
	"github.com/qkdmail/qkdmail/mailer/internal/mailtest"
	"github.com/qkdmail/qkdmail/mailer/relay"
	"github.com/qkdmail/qkdmail/mailer/relay/config"
)

// Clients in the middle of a message take memory. Whoever comes when none is left is
// refused before DATA, or as soon as the header is too long. When the clients go, the
// memory is free.
func TestMemory(t *testing.T) {
	long := strings.Repeat("X-A: "+strings.Repeat("x", 900)+"\r\n", 250)
	mailtest.Directions(t, func(t *testing.T, d mailer.Direction) {
		mailtest.NoLeaks(t)
		hop := mailtest.StartHop(t)
		r := mailtest.StartRelay(t, d, hop.Addr(), func(c *config.Config) { c.Limits.Memory = 8 << 20 })
		holders, all := holdData(t, r)
		if len(holders) == 0 || len(holders) == len(all) {
			t.Errorf("%d of %d messages were taken", len(holders), len(all))
		}
		for i, c := range holders {
			c.Send("From: x@x.example\r\n")
			if i%2 == 0 {
				c.Send(long)
			}
		}
		tooLong := 0
		for _, c := range holders {
			c.Send("\r\nbody\r\n.\r\n")
			if reply := c.Reply(); reply[:3] != "250" {
				c.Want("451 4.3.2", reply)
				tooLong++
			}
		}
		if tooLong == 0 || tooLong == len(holders) {
			t.Errorf("%d of %d messages had too long a header", tooLong, len(holders))
		}
		for _, c := range all {
			_ = c.Conn.Close()
		}
		// Recipients without a message, whose memory would add up to three messages.
		c := mailtest.Connect(t, r)
		for range 20 {
			c.Want("250", c.Cmd("MAIL FROM:<x@x.example>"))
			for range 100 {
				c.Want("250", c.Cmd("RCPT TO:<bob@b.example>"))
			}
			c.Want("250", c.Cmd("RSET"))
		}
		again := 0
		for end := time.Now().Add(mailtest.Patience); again < len(holders) && time.Now().Before(end); {
			more, all := holdData(t, r)
			again = len(more)
			for _, c := range all {
				_ = c.Conn.Close()
			}
		}
		if again != len(holders) {
			t.Errorf("%d messages are taken after all have gone, %d were before", again, len(holders))
		}
	})
}

// holdData returns the clients that have each begun a message, and all that have tried.
func holdData(t *testing.T, r *mailtest.Relay) (holders, all []*mailtest.Client) {
	t.Helper()
	for range 30 {
		c := mailtest.Connect(t, r)
		all = append(all, c)
		c.Want("250", c.Cmd("MAIL FROM:<x@x.example>"))
		c.Want("250", c.Cmd("RCPT TO:<bob@b.example>"))
		if reply := c.Cmd("DATA"); reply[:3] == "354" {
			holders = append(holders, c)
		} else {
			c.Want("451 4.3.2", reply)
		}
	}
	return holders, all
}

// A message that may get a long pad takes more.
func TestPadLimitMemory(t *testing.T) {
	hop := mailtest.StartHop(t)
	r := mailtest.StartRelay(t, mailer.DirectionEncrypt, hop.Addr(), func(c *config.Config) {
		c.Limits.Memory = 8 << 20
		for i := range c.Rules {
			if c.Rules[i].Suite == "auto" {
				c.Rules[i].PadLimit = 1 << 20
			}
		}
	})
	for i, want := range []string{"354", "354", "354", "451 4.3.2"} {
		c := mailtest.Connect(t, r)
		c.Want("250", c.Cmd("MAIL FROM:<x@x.example>"))
		c.Want("250", c.Cmd("RCPT TO:<bob@auto.example>"))
		if reply := c.Cmd("DATA"); !strings.HasPrefix(reply, want) {
			t.Errorf("message %d: %s, want %s", i+1, reply, want)
		}
	}
}

// Memory that a message takes is counted as often as it is held, for each kind that is
// held in more than one place.
func TestMemoryOfCopies(t *testing.T) {
	long := strings.Repeat("X-A: "+strings.Repeat("x", 900)+"\r\n", 250)
	for _, tt := range []struct {
		what, header, to string
		least            int64 // bytes
	}{
		{"clear", "", "b@clear.example", mailer.MessageMemory + 150<<10},
		{"encrypted", "", "b@b.example", mailer.MessageMemory + 3*150<<10},
		{"opportunistic", "", "b@maybe.example", mailer.MessageMemory + 4*150<<10},
		{"looks encrypted", "Qkdmail-Key-ID: x\r\n", "b@b.example", mailer.MessageMemory + 5*150<<10},
	} {
		for memory, want := range map[int64]string{tt.least: "451 4.3.2", tt.least + 700<<10: "250"} {
			_, _, c := mailtest.Start(t, mailer.DirectionEncrypt, func(c *config.Config) { c.Limits.Memory = memory })
			got := c.Mail("From: x@x.example\r\n"+tt.header+long+"\r\nbody\r\n", "x@x.example", tt.to)
			if !strings.HasPrefix(got, want) {
				t.Errorf("%s, with %d bytes for a header of %d: %s, want %s", tt.what, memory, len(long), got, want)
			}
		}
	}
}

// The IDs of the keys of a long pad are counted.
func TestMemoryOfKeys(t *testing.T) {
	hop := mailtest.StartHop(t)
	km := &scarceKM{KM: mailtest.NewKM(), left: 4 << 20, limits: kmclient.Status{KeySize: 256, MaxKeySize: 256, MinKeySize: 256, MaxKeyPerRequest: 128}}
	r := mailtest.StartRelayWithKeys(t, km.KM, relay.Keys{Source: km}, mailer.DirectionEncrypt, hop.Addr(), func(c *config.Config) { c.Limits.Memory = 8 << 20 })
	c := mailtest.Connect(t, r)
	c.Mail(mailtest.Text+strings.Repeat("0123456789\r\n", 60_000), "x@x.example", "b@pad.example")
	if log := r.Log.String(); !strings.Contains(log, "code=451 reason=memory") {
		t.Errorf("a pad of 45,000 keys was not refused for its memory: %s", log)
	}
}

// If the memory ends while a message is encrypted for one group, the other group's
// recipients still learn that they have it: without their answer it would come again.
func TestMemoryOfOneGroup(t *testing.T) {
	hop := mailtest.StartHop(t)
	km := &scarceKM{KM: mailtest.NewKM(), left: 4 << 20, limits: kmclient.Status{KeySize: 256, MaxKeySize: 256, MinKeySize: 256, MaxKeyPerRequest: 128}}
	r := mailtest.StartRelayWithKeys(t, km.KM, relay.Keys{Source: km}, mailer.DirectionEncrypt, hop.Addr(), mailtest.OverLMTP,
		func(c *config.Config) { c.Limits.Memory = 8 << 20 })
	c := mailtest.Connect(t, r)
	got := c.Replies(mailtest.Text+strings.Repeat("0123456789\r\n", 60_000), "a@pad.example", "b@clear.example")
	if hop.One(); got != "451 250" {
		t.Errorf("the answers are %s, want 451 250", got)
	}
	c.Want("250", c.Cmd("NOOP"))
}

// The next hop is not asked for a recipient for whom there is no memory: it would deliver
// to one who was refused. One whom it refuses takes no memory any more.
func TestMemoryOfRefusedRecipients(t *testing.T) {
	mailtest.Directions(t, func(t *testing.T, d mailer.Direction) {
		mailtest.NoLeaks(t)
		hop, r, c := mailtest.Start(t, d, func(c *config.Config) { c.Limits.Memory = mailer.MessageMemory + 16<<10 })
		mailtest.Answering("RCPT TO:<nobody@", "550 5.1.1 no such user")(hop)
		c.Want("250", c.Cmd("MAIL FROM:<alice@a.example>"))
		for range 500 {
			c.Want("550 5.1.1", c.Cmd("RCPT TO:<nobody@b.example>"))
		}
		c.Want("250", c.Cmd("RCPT TO:<bob@b.example>"))
		c.Want("354", c.Cmd("DATA"))
		c.Send(mailtest.Stuffed(mailtest.MessageFor(t, d, r.KM)))
		c.Want("250", c.Reply())

		hop.Forget()
		c.Want("250", c.Cmd("MAIL FROM:<alice@a.example>"))
		accepted := 0
		for strings.HasPrefix(c.Cmd("RCPT TO:<bob@b.example>"), "250") {
			accepted++
		}
		if asked := strings.Count(hop.Commands(), "RCPT"); accepted == 0 || asked != accepted {
			t.Errorf("of %d recipients that the next hop has, %d were accepted", asked, accepted)
		}
	})
}
