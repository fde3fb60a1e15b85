package mailer

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// A hopScript is what a next hop answers other than usual, by the beginning of
// the command.
type hopScript map[string]string

// hopScripts has next hops that refuse, close or talk nonsense at each step.
func hopScripts() []hopScript {
	const one, two = "RCPT TO:<one@b.example>", "RCPT TO:<two@b.example>"
	scripts := []hopScript{{}}
	for _, at := range []string{"MAIL", one, two, "DATA", "DOT"} {
		for _, reply := range []string{
			"450 4.2.0 later", "550 5.1.1 no", "550-5.1.1 no\r\n550-5.1.1 \r\n550 5.1.1 never", "421 4.3.2 stopping",
			"250 2.0.0 ok", "251 2.1.5 elsewhere", "354 go", "550 no enhanced code", "nonsense", drop,
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
		hopScript{"MAIL": "450 4.1.8 later", one: drop},
		hopScript{"DOT RCPT TO:<one": "550 5.2.2 full"},
		hopScript{"DOT RCPT TO:<one": "450 4.2.2 full", "DOT RCPT TO:<two": "550 5.2.2 full"},
	)
}

// dialogue has a client send a message to two recipients, whatever it is
// answered, then another, and returns all that it was answered and what came to
// the next hop.
func dialogue(t *testing.T, d Direction, lmtp, ahead bool, script hopScript, changes ...func(*testHop)) string {
	hop := startHop(t, append(changes, func(h *testHop) {
		h.lmtp = lmtp
		h.script = func(line string) string {
			for at, reply := range script {
				if strings.HasPrefix(line, at) {
					return reply
				}
			}
			return ""
		}
	})...)
	r := startRelay(t, d, hop.addr(), func(c *Config) {
		if lmtp {
			bothLMTP(c)
		}
	})
	c := connect(t, r)
	var said strings.Builder
	for range 2 {
		fmt.Fprintln(&said, c.transaction(messageFor(t, d, r.km), ahead, lmtp))
		hop.behave()
	}
	c.want("250", c.cmd("NOOP"))
	_ = r.stop()
	for _, m := range hop.got() {
		fmt.Fprintln(&said, m.mail, m.rcpts, strings.Contains(m.data, "very secret body"), len(m.data) > 300)
	}
	return said.String()
}

// transaction sends a message, with all commands at once or one by one. A
// refused DATA is not followed by a message.
func (c *testClient) transaction(message string, ahead, lmtp bool) string {
	commands := []string{"MAIL FROM:<alice@a.example>", "RCPT TO:<one@b.example>", "RCPT TO:<two@b.example>", "DATA"}
	if ahead {
		c.send(strings.Join(commands, "\r\n") + "\r\n")
	}
	var answers []string
	for _, command := range commands {
		if !ahead {
			c.send(command + "\r\n")
		}
		answers = append(answers, c.reply())
	}
	if strings.HasPrefix(answers[3], "354") {
		c.send(stuffed(message))
		for _, a := range answers[1:3] {
			if a[0] == '2' && (lmtp || len(answers) == 4) {
				answers = append(answers, c.reply())
			}
		}
	}
	return strings.Join(append(answers, c.cmd("RSET")), "\n")
}

// Whether or not commands travel together, and however the answers come, a
// client is told the same, and the next hop gets the same.
func TestHopPipelining(t *testing.T) {
	sequential := func(h *testHop) {
		h.ext = slices.DeleteFunc(slices.Clone(h.ext), func(e string) bool { return e == "PIPELINING" })
	}
	late := func(h *testHop) { h.late = time.Millisecond }
	packets := func(h *testHop) { h.packets = true }
	for _, tt := range []struct {
		d    Direction
		lmtp bool
	}{{DirectionEncrypt, false}, {DirectionDecrypt, false}, {DirectionEncrypt, true}} {
		t.Run(fmt.Sprintf("%s, LMTP %v", tt.d, tt.lmtp), func(t *testing.T) {
			noLeaks(t)
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
						t.Errorf("%q, PIPELINING by %s: the client is told\n%s\ninstead of\n%s", script, name, got, want)
					}
				}
			}
		})
	}
}

// A connection on which the next hop has said more than it was asked is not
// used again: its answers could not be told apart.
func TestUnaskedAnswers(t *testing.T) {
	for _, more := range []string{"421 4.3.2 bye", "250 2.0.0 ok", "250-2.0.0"} {
		directions(t, func(t *testing.T, d Direction) {
			noLeaks(t)
			hop := startHop(t, answering("DOT", "250 2.0.0 queued\r\n"+more))
			r := startRelay(t, d, hop.addr())
			c := connect(t, r)
			for range 3 {
				c.want("250", attempt(c, messageFor(t, d, r.km)))
			}
			if n := len(hop.got()); n != 3 || hop.connections() < 3 {
				t.Errorf("%d messages over %d connections", n, hop.connections())
			}
		})
	}
}

// A message that is refused here leaves no trace at the next hop but a transaction
// that was reset, on a connection that is used again.
func TestRefusedBeforeData(t *testing.T) {
	directions(t, func(t *testing.T, d Direction) {
		noLeaks(t)
		hop := startHop(t)
		r := startRelay(t, d, hop.addr())
		c := connect(t, r)
		bad := "From: x@x.example\r\n\r\nbare\nLF\r\n"
		for range 4 {
			c.want("550", attempt(c, bad))
			c.send("MAIL FROM:<a@a.example>\r\nRCPT TO:<b@b.example>\r\nDATA\r\n")
			c.want("250", c.reply())
			c.want("250", c.reply())
			c.want("354", c.reply())
			c.send(stuffed(bad))
			c.want("550", c.reply())
		}
		if n := hop.connections(); n > 2 || strings.Contains(hop.commands(), "DATA") { // one of them is the probe's
			t.Errorf("8 messages that were refused: %d connections, and the next hop heard\n%s", n, hop.commands())
		}
		hop.none()
		c.want("250", attempt(c, messageFor(t, d, r.km)))
		hop.one()
	})
}

// Each answer of the next hop has the time of a command, also where commands
// travel together.
func TestTimeOfEachAnswer(t *testing.T) {
	noLeaks(t)
	hop := startHop(t, func(h *testHop) { h.late = 200 * time.Millisecond })
	r := startRelay(t, DirectionEncrypt, hop.addr(), func(c *Config) { c.Timeouts.Command = 300 * time.Millisecond })
	c := connect(t, r)
	c.want("250", attempt(c, testMessage))
	hop.one()
}
