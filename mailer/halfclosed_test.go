package mailer_test

import (
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/mailer"
	"github.com/qkdmail/qkdmail/mailer/internal/mailtest"
)

func TestHalfClosed(t *testing.T) {
	mailtest.Directions(t, func(t *testing.T, d mailer.Direction) {
		hop := mailtest.StartHop(t, func(h *mailtest.Hop) { h.Late = 5 * time.Millisecond })
		r := mailtest.StartRelay(t, d, hop.Addr())
		c := mailtest.Dial(t, r.Addr)
		c.Send("EHLO c.example\r\nMAIL FROM:<alice@a.example>\r\nRCPT TO:<bob@b.example>\r\nDATA\r\n" + mailtest.Stuffed(mailtest.MessageFor(t, d, r.KM)) + "NOOP\r\nQUIT\r\n")
		_ = c.Conn.(*net.TCPConn).CloseWrite()
		all, _ := io.ReadAll(c.In)
		if !strings.Contains(string(all), "354") || strings.Count(string(all), "\r\n2") < 5 || !strings.Contains(string(all), "\r\n221") {
			t.Errorf("%s", all)
		}
		hop.One()
	})
}

// DATA that no recipient was accepted for is refused here, and the next hop hears
// nothing of it.
func TestDataWithoutRecipients(t *testing.T) {
	mailtest.Directions(t, func(t *testing.T, d mailer.Direction) {
		for next, last := range map[string]string{
			"RSET": "250", "RCPT TO:<two@b.example>": "250", "QUIT": "221", "MAIL FROM:<alice@a.example>": "503",
		} {
			hop := mailtest.StartHop(t, mailtest.Answering("RCPT TO:<one", "550 5.1.1 no"))
			r := mailtest.StartRelay(t, d, hop.Addr())
			c := mailtest.Connect(t, r)
			c.Send("MAIL FROM:<alice@a.example>\r\nRCPT TO:<one@b.example>\r\nDATA\r\n" + next + "\r\n")
			for _, want := range []string{"250", "550 5.1.1", "503 5.5.1", last} {
				c.Want(want, c.Reply())
			}
			_ = r.Stop()
			hop.None()
			if strings.Contains(hop.Commands(), "DATA") {
				t.Errorf("the next hop heard %q", hop.Commands())
			}
		}
	})
}
