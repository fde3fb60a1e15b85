package mailer

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/mailer/internal/block"
)

// A reply that the next hop sends while the message is still going out must
// not be taken for the answer to the final dot.
func TestUnaskedBeforeDot(t *testing.T) {
	directions(t, func(t *testing.T, d Direction) {
		hop := startHop(t, func(h *testHop) {
			h.script = func(line string) string {
				switch {
				case line == "DATA":
					return "354 go\r\n250 2.0.0 said too early"
				case line == "DOT":
					return "451 4.3.0 not taken"
				}
				return ""
			}
		})
		r := startRelay(t, d, hop.addr())
		c := connect(t, r)
		reply := c.mail(messageFor(t, d, r.km), "alice@a.example", "bob@b.example")
		if reply[0] == '2' {
			t.Errorf("client told %q, the next hop has answered 451 to the message", reply)
		}
		hop.none()
	})
}

// The answer to a message that is refused here must not wait for the next
// hop's answer to a DATA that is taken back, nor to RSET.
func TestAnswerBeforeReset(t *testing.T) {
	for _, slow := range []string{"DATA", "RSET"} {
		t.Run(slow, func(t *testing.T) {
			hop := startHop(t, func(h *testHop) {
				h.script = func(line string) string {
					if line == slow {
						return hang
					}
					if line == "DATA" {
						return "451 4.3.0 later"
					}
					return ""
				}
			})
			r := startRelay(t, DirectionDecrypt, hop.addr())
			c := connect(t, r)
			c.begin("alice@a.example", "bob@b.example")
			c.send(strings.Replace(seal(t, r.km, testMessage), "Qkdmail-Key-ID: 0", "Qkdmail-Key-ID: 1", 1) + ".\r\n")
			_ = c.conn.SetDeadline(time.Now().Add(patience))
			c.want("550", c.reply())
		})
	}
}

// Over LMTP the 250 of a group that was delivered waits for the RSET of
// another group's connection.
func TestDeliveredAnswerBeforeReset(t *testing.T) {
	hop := startHop(t, func(h *testHop) {
		h.lmtp = true
		h.perConn = func() func(string) string {
			other := false
			return func(line string) string {
				other = other || strings.HasPrefix(line, "RCPT TO:<x@c.example")
				switch {
				case line == "DATA" && other:
					return "451 4.3.0 later"
				case line == "RSET" && other:
					return hang
				}
				return ""
			}
		}
	})
	r := startRelay(t, DirectionEncrypt, hop.addr(), bothLMTP)
	c := connect(t, r)
	c.begin("alice@a.example", "bob@b.example", "x@c.example")
	c.send(stuffed(testMessage))
	for end := time.Now().Add(patience); len(hop.got()) == 0 && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	_ = c.conn.SetDeadline(time.Now().Add(patience))
	c.want("250", c.reply())
}

// What a message that is refused leaves behind in the buffers.
func TestRefusedIsWiped(t *testing.T) {
	for name, bad := range map[string]string{"bare CR": "bare\rCR\r\n", "NUL": "nul\x00\r\n", "too large": strings.Repeat("x", 1000) + "\r\n"} {
		t.Run(name, func(t *testing.T) {
			for range 5 { // the pool may hand out another block
				message := strings.NewReader(testMessage + strings.Repeat("very secret line\r\n", 1000) + bad)
				if _, err := readHead(&lineChecker{src: message, maxSize: 18500}, 256<<10, newMemory(0).take); err == nil {
					t.Fatal("not refused")
				}
				if b := block.Get(); bytes.Contains(b[:], []byte("very secret")) {
					t.Fatal("a free block holds mail in clear")
				}
			}
		})
	}
}

// MAIL's answer does not wait for as long as the next hop takes for the first
// recipient.
func TestAnswerHeldNoLonger(t *testing.T) {
	told := make(chan struct{})
	hop := startHop(t, func(h *testHop) {
		h.script = func(line string) string {
			if strings.HasPrefix(line, "RCPT") {
				select {
				case <-told:
				case <-time.After(patience):
				}
			}
			return ""
		}
	})
	r := startRelay(t, DirectionEncrypt, hop.addr(), func(c *Config) { c.Timeouts.Command = 2 * patience })
	c := connect(t, r)
	c.send("MAIL FROM:<alice@a.example>\r\nRCPT TO:<one@b.example>\r\nRCPT TO:<two@b.example>\r\n")
	c.want("250", c.reply())
	close(told)
	c.want("250", c.reply())
	c.want("250", c.reply())
}
