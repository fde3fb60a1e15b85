package mailer

import (
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

func TestHalfClosed(t *testing.T) {
	directions(t, func(t *testing.T, d Direction) {
		hop := startHop(t, func(h *testHop) { h.late = 5 * time.Millisecond })
		r := startRelay(t, d, hop.addr())
		c := dial(t, r.addr)
		c.send("EHLO c.example\r\nMAIL FROM:<alice@a.example>\r\nRCPT TO:<bob@b.example>\r\nDATA\r\n" + stuffed(messageFor(t, d, r.km)) + "NOOP\r\nQUIT\r\n")
		_ = c.conn.(*net.TCPConn).CloseWrite()
		all, _ := io.ReadAll(c.in)
		if !strings.Contains(string(all), "354") || strings.Count(string(all), "\r\n2") < 5 || !strings.Contains(string(all), "\r\n221") {
			t.Errorf("%s", all)
		}
		hop.one()
	})
}

// DATA that no recipient was accepted for is refused here, and the next hop hears
// nothing of it.
func TestDataWithoutRecipients(t *testing.T) {
	directions(t, func(t *testing.T, d Direction) {
		for next, last := range map[string]string{
			"RSET": "250", "RCPT TO:<two@b.example>": "250", "QUIT": "221", "MAIL FROM:<alice@a.example>": "503",
		} {
			hop := startHop(t, answering("RCPT TO:<one", "550 5.1.1 no"))
			r := startRelay(t, d, hop.addr())
			c := connect(t, r)
			c.send("MAIL FROM:<alice@a.example>\r\nRCPT TO:<one@b.example>\r\nDATA\r\n" + next + "\r\n")
			for _, want := range []string{"250", "550 5.1.1", "503 5.5.1", last} {
				c.want(want, c.reply())
			}
			_ = r.stop()
			hop.none()
			if strings.Contains(hop.commands(), "DATA") {
				t.Errorf("the next hop heard %q", hop.commands())
			}
		}
	})
}
