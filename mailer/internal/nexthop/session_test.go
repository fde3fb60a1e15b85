package nexthop_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/mailer"
	"github.com/qkdmail/qkdmail/mailer/internal/mailtest"
	"github.com/qkdmail/qkdmail/mailer/relay/config"
)

// A reply that the next hop sends while the message is still going out must
// not be taken for the answer to the final dot.
func TestUnaskedBeforeDot(t *testing.T) {
	mailtest.Directions(t, func(t *testing.T, d mailer.Direction) {
		hop := mailtest.StartHop(t, func(h *mailtest.Hop) {
			h.Script = func(line string) string {
				switch {
				case line == "DATA":
					return "354 go\r\n250 2.0.0 said too early"
				case line == "DOT":
					return "451 4.3.0 not taken"
				}
				return ""
			}
		})
		r := mailtest.StartRelay(t, d, hop.Addr())
		c := mailtest.Connect(t, r)
		reply := c.Mail(mailtest.MessageFor(t, d, r.KM), "alice@a.example", "bob@b.example")
		if reply[0] == '2' {
			t.Errorf("client answered %q, the next hop has answered 451 to the message", reply)
		}
		hop.None()
	})
}

// A hopScript has a next hop's unusual answers, by the beginning of the command.
type hopScript map[string]string

// hopScripts returns scripts of next hops that refuse, close or talk nonsense at each
// step.
func hopScripts() []hopScript {
	const one, two = "RCPT TO:<one@b.example>", "RCPT TO:<two@b.example>"
	scripts := []hopScript{{}}
	for _, at := range []string{"MAIL", one, two, "DATA", "DOT"} {
		for _, reply := range []string{
			"450 4.2.0 later", "550 5.1.1 no", "550-5.1.1 no\r\n550-5.1.1 \r\n550 5.1.1 never", "421 4.3.2 stopping",
			"250 2.0.0 ok", "251 2.1.5 elsewhere", "354 go", "550 no enhanced code", "nonsense", mailtest.Drop,
		} {
			scripts = append(scripts, hopScript{at: reply})
		}
	}
	return append(scripts,
		hopScript{one: "550 5.1.1 no", two: "450 4.2.1 later"},
		hopScript{one: "550 5.1.1 no", two: "421 4.3.2 stopping"},
		hopScript{one: "550 5.1.1 no", two: "550 5.1.1 no", "DATA": "503 5.5.1 no recipients"},
		hopScript{one: "550 5.1.1 no", "DATA": "451 4.3.0 later"},
		hopScript{"MAIL": "450 4.1.8 later", one: "503 5.5.1 MAIL first", two: "503 5.5.1 MAIL first", "DATA": "503 5.5.1 MAIL first"},
		hopScript{"MAIL": "450 4.1.8 later", one: mailtest.Drop},
		hopScript{"DOT RCPT TO:<one": "550 5.2.2 full"},
		hopScript{"DOT RCPT TO:<one": "450 4.2.2 full", "DOT RCPT TO:<two": "550 5.2.2 full"},
	)
}

// dialogue has a client send a message to two recipients, whatever the answers, then
// another, and returns all answers and what came to the next hop.
func dialogue(t *testing.T, d mailer.Direction, lmtp, ahead bool, script hopScript, changes ...func(*mailtest.Hop)) string {
	hop := mailtest.StartHop(t, append(changes, func(h *mailtest.Hop) {
		h.LMTP = lmtp
		h.Script = func(line string) string {
			for at, reply := range script {
				if strings.HasPrefix(line, at) {
					return reply
				}
			}
			return ""
		}
	})...)
	r := mailtest.StartRelay(t, d, hop.Addr(), func(c *config.Config) {
		if lmtp {
			mailtest.BothLMTP(c)
		}
	})
	c := mailtest.Connect(t, r)
	var said strings.Builder
	for range 2 {
		fmt.Fprintln(&said, transaction(c, mailtest.MessageFor(t, d, r.KM), ahead, lmtp))
		hop.Follow(nil)
	}
	c.Want("250", c.Cmd("NOOP"))
	_ = r.Stop()
	for _, m := range hop.Got() {
		fmt.Fprintln(&said, m.Mail, m.Rcpts, strings.Contains(m.Data, "very secret body"), len(m.Data) > 300)
	}
	return said.String()
}

// transaction sends a message, with all commands at once or one by one. A
// refused DATA is not followed by a message.
func transaction(c *mailtest.Client, message string, ahead, lmtp bool) string {
	commands := []string{"MAIL FROM:<alice@a.example>", "RCPT TO:<one@b.example>", "RCPT TO:<two@b.example>", "DATA"}
	if ahead {
		c.Send(strings.Join(commands, "\r\n") + "\r\n")
	}
	var answers []string
	for _, command := range commands {
		if !ahead {
			c.Send(command + "\r\n")
		}
		answers = append(answers, c.Reply())
	}
	if strings.HasPrefix(answers[3], "354") {
		c.Send(mailtest.Stuffed(message))
		for _, a := range answers[1:3] {
			if a[0] == '2' && (lmtp || len(answers) == 4) {
				answers = append(answers, c.Reply())
			}
		}
	}
	return strings.Join(append(answers, c.Cmd("RSET")), "\n")
}

// Whether or not commands travel together, and however the answers come, a
// client gets the same answers, and the next hop the same commands.
func TestHopPipelining(t *testing.T) {
	sequential := func(h *mailtest.Hop) {
		h.Extensions = slices.DeleteFunc(slices.Clone(h.Extensions), func(e string) bool { return e == "PIPELINING" })
	}
	late := func(h *mailtest.Hop) { h.Late = time.Millisecond }
	packets := func(h *mailtest.Hop) { h.Packets = true }
	for _, tt := range []struct {
		d    mailer.Direction
		lmtp bool
	}{{mailer.DirectionEncrypt, false}, {mailer.DirectionDecrypt, false}, {mailer.DirectionEncrypt, true}} {
		t.Run(fmt.Sprintf("%s, LMTP %v", tt.d, tt.lmtp), func(t *testing.T) {
			mailtest.NoLeaks(t)
			for _, script := range hopScripts() {
				want := dialogue(t, tt.d, tt.lmtp, false, script, sequential)
				for name, got := range map[string]string{
					"client ahead":               dialogue(t, tt.d, tt.lmtp, true, script, sequential),
					"next hop":                   dialogue(t, tt.d, tt.lmtp, false, script),
					"both":                       dialogue(t, tt.d, tt.lmtp, true, script),
					"both, answers late":         dialogue(t, tt.d, tt.lmtp, true, script, late),
					"both, answers in one piece": dialogue(t, tt.d, tt.lmtp, true, script, packets),
				} {
					if got != want {
						t.Errorf("%q, PIPELINING by %s: the client gets\n%s\ninstead of\n%s", script, name, got, want)
					}
				}
			}
		})
	}
}

// A connection on which the next hop has sent a reply without a command is not used
// again: it would not be clear which command an answer is to.
func TestUnaskedAnswers(t *testing.T) {
	for _, more := range []string{"421 4.3.2 bye", "250 2.0.0 ok", "250-2.0.0"} {
		mailtest.Directions(t, func(t *testing.T, d mailer.Direction) {
			mailtest.NoLeaks(t)
			hop := mailtest.StartHop(t, mailtest.Answering("DOT", "250 2.0.0 queued\r\n"+more))
			r := mailtest.StartRelay(t, d, hop.Addr())
			c := mailtest.Connect(t, r)
			for range 3 {
				c.Want("250", c.Attempt(mailtest.MessageFor(t, d, r.KM)))
			}
			if n := len(hop.Got()); n != 3 || hop.Connections() < 3 {
				t.Errorf("%d messages over %d connections", n, hop.Connections())
			}
		})
	}
}

// A message that is refused here leaves no trace at the next hop but a reset transaction,
// on a connection that is used again.
func TestRefusedBeforeData(t *testing.T) {
	mailtest.Directions(t, func(t *testing.T, d mailer.Direction) {
		mailtest.NoLeaks(t)
		hop, r, c := mailtest.Start(t, d)
		bad := "From: x@x.example\r\n\r\nbare\nLF\r\n"
		for range 4 {
			c.Want("550", c.Attempt(bad))
			c.Send("MAIL FROM:<a@a.example>\r\nRCPT TO:<b@b.example>\r\nDATA\r\n")
			c.Want("250", c.Reply())
			c.Want("250", c.Reply())
			c.Want("354", c.Reply())
			c.Send(mailtest.Stuffed(bad))
			c.Want("550", c.Reply())
		}
		if n := hop.Connections(); n > 2 || strings.Contains(hop.Commands(), "DATA") { // one of them is the probe's
			t.Errorf("8 messages that were refused: %d connections, and the next hop heard\n%s", n, hop.Commands())
		}
		hop.None()
		c.Want("250", c.Attempt(mailtest.MessageFor(t, d, r.KM)))
		hop.One()
	})
}

// Each answer of the next hop has the time-out of a command, even if commands travel
// together.
func TestTimeOfEachAnswer(t *testing.T) {
	mailtest.NoLeaks(t)
	hop := mailtest.StartHop(t, func(h *mailtest.Hop) { h.Late = 600 * time.Millisecond })
	r := mailtest.StartRelay(t, mailer.DirectionEncrypt, hop.Addr(), func(c *config.Config) { c.Timeouts.Command = 1100 * time.Millisecond })
	c := mailtest.Connect(t, r)
	c.Want("250", c.Attempt(mailtest.Text))
	hop.One()
}
