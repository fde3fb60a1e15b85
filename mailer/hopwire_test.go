package mailer

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
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
// client is told the same, and the next hop gets the same: that of go-smtp's
// client, which sends them one by one where PIPELINING is not offered.
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

// MAIL and the first recipient come to the next hop together, and DATA with the
// last one where the client has sent it.
func TestTogether(t *testing.T) {
	directions(t, func(t *testing.T, d Direction) {
		for _, ahead := range []bool{false, true} {
			noLeaks(t)
			client, server := net.Pipe()
			defer client.Close()
			// A pipe keeps writes apart, as packets seldom are.
			h := NewNextHop(HopOptions{Address: "x:1"})
			c, err := greetOverPipe(h, client, server, "250-hop\r\n250 PIPELINING\r\n")
			if err != nil {
				t.Fatal(err)
			}
			h.put(c)
			f := newFront(client, &frontOptions{})
			if ahead {
				f.in.giveBack([]byte("data\r\n"))
			}
			s := &hopSession{hop: h, client: f}
			wrote := make(chan string, 1)
			go func() {
				p := make([]byte, 1000)
				n, _ := server.Read(p)
				wrote <- string(p[:n])
				_, _ = server.Write([]byte("250 2.1.0 ok\r\n250 2.1.5 ok\r\n"))
			}()
			if err := s.Mail("a@a.example", nil); err != nil {
				t.Fatal(err)
			}
			if err := s.Rcpt("b@b.example", nil); err != nil {
				t.Fatal(err)
			}
			want := "MAIL FROM:<a@a.example>\r\nRCPT TO:<b@b.example>\r\n"
			if ahead {
				want += "DATA\r\n"
			}
			if got := <-wrote; got != want {
				t.Errorf("%q, want %q", got, want)
			}
			_ = server.Close()
			_ = s.Logout()
		}
	})
}

// greetOverPipe is a connection to a next hop that has said hello.
func greetOverPipe(h *NextHop, client, server net.Conn, hello string) (*hopConn, error) {
	go func() {
		_, _ = io.WriteString(server, "220 hop\r\n")
		_, _ = bufio.NewReader(server).ReadString('\n')
		_, _ = io.WriteString(server, hello)
	}()
	return h.hello(client)
}

// A next hop that takes a DATA which the client takes back, for want of a
// recipient, loses the connection and gets no message.
func TestDataTakenBack(t *testing.T) {
	directions(t, func(t *testing.T, d Direction) {
		noLeaks(t)
		script := hopScript{"RCPT": "550 5.1.1 no", "DATA": "354 go"}
		hop := startHop(t, func(h *testHop) {
			h.script = func(line string) string {
				verb, _, _ := strings.Cut(line, " ")
				return script[verb]
			}
		})
		r := startRelay(t, d, hop.addr())
		c := connect(t, r)
		c.send("MAIL FROM:<a@a.example>\r\nRCPT TO:<b@b.example>\r\nDATA\r\n")
		c.want("250", c.reply())
		c.want("550", c.reply())
		c.want("502", c.reply()) // go-smtp's: there is no recipient
		c.want("451 4.4.2", c.cmd("RCPT TO:<c@b.example>"))
		if got := hop.wasCut(); got != "" {
			t.Errorf("DATA %q", got)
		}
		c.want("250", c.cmd("RSET"))
		hop.behave()
		c.want("250", attempt(c, messageFor(t, d, r.km)))
		hop.one()
	})
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

// After a message that was cut short behind DATA, DATA waits until a message is
// sure: a next hop must not lose a connection for each message that is refused.
func TestDataWaitsAfterCut(t *testing.T) {
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
		if n := hop.connections(); n > 2 {
			t.Errorf("%d connections for 8 messages that were refused", n)
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

// FuzzAnswers compares the answers to commands that travel together with those
// that go-smtp reads one by one, in whatever pieces they come.
func FuzzAnswers(f *testing.F) {
	for _, seed := range []string{
		"250 ok\r\n250 ok\r\n354 go\r\n",
		"250-ok\r\n250 ok\r\n550 5.1.1 no\r\n554 5.5.1 none\r\n",
		"451-4.3.0 a\r\n451-4.3.0 b\n451 4.3.0 c\r\n503 x\r\n503 y\r\n",
		"550-a\r\n250 b\r\n550 c\r\n250 ok\r\n354 go\r\n",
		"999 x\r\n25\r\n\r\n", "421 4.3.2 stopping\r\n", "250\r\n250 \r\n", "250 " + strings.Repeat("x", 1800) + "\r\n250 ok\r\n",
	} {
		f.Add([]byte(seed), uint8(3))
	}
	f.Fuzz(func(t *testing.T, answers []byte, size uint8) {
		for line := range bytes.Lines(answers) {
			if len(line) > 1900 {
				t.Skip("what go-smtp takes of a line that is too long depends on the pieces it comes in")
			}
		}
		alone := newAnswering(answers, size)
		c := smtp.NewClient(alone)
		want := []string{told(c.Mail("a@a.example", nil))}
		if want[0] == "" {
			want = append(want, told(c.Rcpt("b@b.example", nil)))
		}
		together := newAnswering(answers, size)
		w := newHopWire(together, time.Minute)
		s := &hopSession{hop: NewNextHop(HopOptions{}), from: "a@a.example"}
		mail, rcpt := s.first(&hopConn{Client: smtp.NewClient(w), wire: w}, "b@b.example", nil)
		got := []string{told(mail)}
		if got[0] == "" {
			got = append(got, told(rcpt))
		}
		if !slices.Equal(got, want) {
			t.Errorf("%.100q: %.100q, go-smtp alone %q", answers, got, want)
		}
		if !strings.HasPrefix(together.wrote.String(), alone.wrote.String()) {
			t.Errorf("%q was written, by go-smtp alone %q", together.wrote.String(), alone.wrote.String())
		}
	})
}

// told is what an answer comes to.
func told(err error) string {
	var reply *smtp.SMTPError
	switch {
	case err == nil:
		return ""
	case errors.As(err, &reply):
		return fmt.Sprint(reply.Code, reply.EnhancedCode, reply.Message)
	}
	return "lost"
}

// An answeringConn has all answers ready, and gives them out in pieces.
type answeringConn struct {
	net.Conn
	answers io.Reader
	size    int
	wrote   bytes.Buffer
}

func newAnswering(answers []byte, size uint8) *answeringConn {
	all := append([]byte("220 hop\r\n250-hop\r\n250 PIPELINING\r\n"), answers...)
	return &answeringConn{answers: bytes.NewReader(all), size: 1 + int(size)}
}

func (c *answeringConn) Read(p []byte) (int, error)      { return c.answers.Read(p[:min(len(p), c.size)]) }
func (c *answeringConn) Write(p []byte) (int, error)     { return c.wrote.Write(p) }
func (c *answeringConn) Close() error                    { return nil }
func (c *answeringConn) SetDeadline(time.Time) error     { return nil }
func (c *answeringConn) SetReadDeadline(time.Time) error { return nil }
