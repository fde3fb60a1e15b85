package relay_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/qkdmail/qkdmail/mailer"
	"github.com/qkdmail/qkdmail/mailer/internal/mailtest"
	"github.com/qkdmail/qkdmail/mailer/internal/testcerts"
	"github.com/qkdmail/qkdmail/mailer/relay/config"
)

// offered returns the extensions in the answer to EHLO.
func offered(reply string) []string {
	var all []string
	for i, line := range strings.Split(reply, "\r\n") {
		if i > 0 {
			all = append(all, line[4:])
		}
	}
	slices.Sort(all)
	return all
}

// The listener offers what the next hop supports, in clear and in TLS.
func TestOffers(t *testing.T) {
	certs := testcerts.Make(t)
	always := []string{"ENHANCEDSTATUSCODES", "LIMITS RCPTMAX=1000", "PIPELINING"}
	for _, tt := range []struct {
		d    mailer.Direction
		ext  []string
		want []string
	}{
		{mailer.DirectionDecrypt, []string{"8BITMIME", "SMTPUTF8", "DSN", "SIZE 5000000", "CHUNKING", "BINARYMIME"}, []string{"8BITMIME", "SMTPUTF8", "DSN", fmt.Sprintf("SIZE %d", 5000000*137/100+110592)}},
		{mailer.DirectionDecrypt, nil, []string{"SIZE 104857600"}},
		{mailer.DirectionDecrypt, []string{"SIZE"}, []string{"SIZE 104857600"}},
		{mailer.DirectionDecrypt, []string{"SIZE 0", "DSN"}, []string{"SIZE 104857600", "DSN"}},
		{mailer.DirectionDecrypt, []string{"SIZE 999999999999"}, []string{"SIZE 104857600"}},
		{mailer.DirectionEncrypt, []string{"8BITMIME", "SMTPUTF8", "DSN", "SIZE 5000000", "CHUNKING"}, []string{"8BITMIME", "SMTPUTF8", "DSN", fmt.Sprintf("SIZE %d", (5000000-110592)*100/137)}},
		{mailer.DirectionEncrypt, nil, []string{"8BITMIME", "SIZE 104857600"}},
	} {
		t.Run(fmt.Sprint(tt.d, tt.ext), func(t *testing.T) {
			mailtest.NoLeaks(t)
			hop := mailtest.StartHop(t, func(h *mailtest.Hop) { h.Extensions = tt.ext })
			r := mailtest.StartRelay(t, tt.d, hop.Addr(), func(c *config.Config) {
				l := &c.Listeners[0]
				l.TLS, l.TLSCert, l.TLSKey = config.TLSOpportunistic, certs.Cert, certs.Key
			})
			c := mailtest.Connect(t, r)
			c.Want("250", c.Cmd("MAIL FROM:<x@x.example>")) // so that the next hop has been seen
			c.Want("250", c.Cmd("RCPT TO:<y@y.example>"))
			c.Want("250", c.Cmd("RSET"))
			want := append(append([]string{"STARTTLS"}, always...), tt.want...)
			slices.Sort(want)
			if got := offered(c.Cmd("EHLO x")); !slices.Equal(got, want) {
				t.Errorf("%q, want %q", got, want)
			}
			c.StartTLS()
			want = slices.DeleteFunc(want, func(s string) bool { return s == "STARTTLS" })
			if got := offered(c.Cmd("EHLO x")); !slices.Equal(got, want) {
				t.Errorf("in TLS %q, want %q", got, want)
			}
		})
	}
}

// CHUNKING is not offered; a client that sends BDAT all the same is cut off, since the
// chunk would be taken for commands.
func TestBDAT(t *testing.T) {
	mailtest.Directions(t, func(t *testing.T, d mailer.Direction) {
		mailtest.NoLeaks(t)
		hop, r, c := mailtest.Start(t, d)
		c.Want("250", c.Cmd("MAIL FROM:<x@x.example>"))
		c.Want("250", c.Cmd("RCPT TO:<y@clear.example>"))
		c.Send("BDAT 60 LAST\r\nMAIL FROM:<evil@x.example>\r\nRCPT TO:<evil@y.example>\r\nDATA\r\n")
		c.Want("502", c.Reply())
		c.Closed()
		_ = r.Stop()
		hop.None()
		if strings.Contains(hop.Commands(), "evil") {
			t.Error("a chunk became commands")
		}
	})
}

// 8-bit content for a next hop without 8BITMIME is refused in clear, and goes through
// encrypted.
func TestEightBit(t *testing.T) {
	const text = "From: x@x.example\r\n\r\ngr\xc3\xbc\xc3\x9fe\r\n"
	for _, able := range []bool{true, false} {
		for _, tt := range []struct {
			name string
			d    mailer.Direction
			to   string
			mail func(t *testing.T, km *mailtest.KM) string
			want bool // even if the next hop has no 8BITMIME
		}{
			{"plain", mailer.DirectionDecrypt, "y@y.example", func(*testing.T, *mailtest.KM) string { return text }, false},
			{"restored", mailer.DirectionDecrypt, "y@y.example", func(t *testing.T, km *mailtest.KM) string { return mailtest.Seal(t, km, text) }, false},
			{"restored, LF", mailer.DirectionDecrypt, "y@y.example", func(t *testing.T, km *mailtest.KM) string {
				return mailtest.Seal(t, km, strings.ReplaceAll(text, "\r", ""))
			}, false},
			{"trace of restored", mailer.DirectionDecrypt, "y@y.example", func(t *testing.T, km *mailtest.KM) string {
				return "Received: from \xc3\xbc\r\n" + mailtest.Seal(t, km, "From: x@x.example\r\n\r\nascii\r\n")
			}, true}, // made ASCII
			{"in clear", mailer.DirectionEncrypt, "y@clear.example", func(*testing.T, *mailtest.KM) string { return text }, false},
			{"encrypted", mailer.DirectionEncrypt, "y@b.example", func(*testing.T, *mailtest.KM) string { return text }, true},
		} {
			t.Run(fmt.Sprint(tt.name, able), func(t *testing.T) {
				mailtest.NoLeaks(t)
				hop := mailtest.StartHop(t, func(h *mailtest.Hop) {
					if !able {
						h.Extensions = []string{"PIPELINING"}
					}
				})
				r := mailtest.StartRelay(t, tt.d, hop.Addr())
				c := mailtest.Connect(t, r)
				want := "554 5.6.3"
				if able || tt.want {
					want = "250"
				}
				c.Want(want, c.Mail(tt.mail(t, r.KM), "x@x.example", tt.to))
				if want != "250" {
					hop.None()
					return
				}
				if m := hop.One(); tt.d == mailer.DirectionEncrypt && tt.want && (strings.ContainsFunc(m.Data, func(r rune) bool { return r > 0x7E }) || mailtest.Open(t, r.KM, m.Data) != text) {
					t.Errorf("%q", m.Data)
				}
			})
		}
	}
}

// An SMTPUTF8 transaction stays one, with raw UTF-8 in the outer address
// fields; without the next hop's SMTPUTF8 it is refused for good.
func TestSMTPUTF8(t *testing.T) {
	const message = "From: <älice@ä.example>\r\nTo: <bøb@b.example>\r\nSubject: geheim\r\n\r\nbody\r\n"
	mailtest.NoLeaks(t)
	for _, able := range []bool{true, false} {
		hop := mailtest.StartHop(t, func(h *mailtest.Hop) {
			if !able {
				h.Extensions = []string{"8BITMIME"}
			}
		})
		r := mailtest.StartRelay(t, mailer.DirectionEncrypt, hop.Addr())
		c := mailtest.Connect(t, r)
		c.Want("553 5.6.7", c.Cmd("MAIL FROM:<älice@ä.example>"))
		c.Want("250", c.Cmd("MAIL FROM:<älice@ä.example> SMTPUTF8 BODY=8BITMIME"))
		if !able {
			c.Want("550 5.6.7", c.Cmd("RCPT TO:<bøb@b.example>"))
			continue
		}
		c.Want("250", c.Cmd("RCPT TO:<bøb@b.example>"))
		c.Want("354", c.Cmd("DATA"))
		c.Send(mailtest.Stuffed(message))
		c.Want("250", c.Reply())
		m := hop.One()
		if m.Mail != "MAIL FROM:<älice@ä.example> BODY=8BITMIME SMTPUTF8" || m.Rcpts[0] != "RCPT TO:<bøb@b.example>" {
			t.Error(m.Mail, m.Rcpts)
		}
		if !strings.Contains(m.Data, "\r\nFrom: <älice@ä.example>\r\n") && !strings.Contains(m.Data, "\r\nFrom: älice@ä.example\r\n") {
			t.Errorf("the outer From: %s", mailtest.Clip(m.Data))
		}
		if !strings.Contains(m.Data, "with UTF8SMTP;") || mailtest.Open(t, r.KM, m.Data) != message {
			t.Errorf("%s", mailtest.Clip(m.Data))
		}
		// And back again.
		back := mailtest.StartHop(t)
		d := mailtest.StartRelayWith(t, r.KM, mailer.DirectionDecrypt, back.Addr())
		c = mailtest.Connect(t, d)
		c.Want("250", c.Cmd("MAIL FROM:<älice@a.example> SMTPUTF8"))
		c.Want("250", c.Cmd("RCPT TO:<bøb@b.example>"))
		c.Want("354", c.Cmd("DATA"))
		c.Send(mailtest.Stuffed(m.Data))
		c.Want("250", c.Reply())
		if got := back.One(); !strings.Contains(got.Mail, " SMTPUTF8") || !strings.HasSuffix(got.Data, message) {
			t.Error(got.Mail, mailtest.Clip(got.Data))
		}
	}
}

// DSN parameters go through to a next hop that has DSN, except for what reports quote.
func TestDSN(t *testing.T) {
	mailtest.NoLeaks(t)
	mailtest.Directions(t, func(t *testing.T, d mailer.Direction) {
		for _, able := range []bool{true, false} {
			hop := mailtest.StartHop(t, func(h *mailtest.Hop) {
				if !able {
					h.Extensions = nil
				}
			})
			r := mailtest.StartRelay(t, d, hop.Addr())
			c := mailtest.Connect(t, r)
			c.Want("250", c.Cmd("MAIL FROM:<x@x.example> RET=HDRS ENVID=a+2Bb+3D"))
			c.Want("250", c.Cmd("RCPT TO:<y@clear.example> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;y+2B@clear.example"))
			c.Want("250", c.Cmd("RSET"))
			commands := hop.Commands()
			mail, rcpt := " RET=HDRS ENVID=a+2Bb+3D", " NOTIFY=SUCCESS,DELAY ORCPT=rfc822;y+2B@clear.example"
			if strings.Contains(commands, mail) != able || strings.Contains(commands, rcpt) != able {
				t.Errorf("able %v:\n%s", able, commands)
			}
		}
	})
}

// Reports on restored mail quote its header at most, whatever the client asks for: the
// relay can't tell all that is forged in an envelope.
func TestReportsWithoutText(t *testing.T) {
	mailtest.NoLeaks(t)
	for _, ret := range []string{"", " RET=FULL", " RET=HDRS"} {
		hop, r, c := mailtest.Start(t, mailer.DirectionDecrypt)
		c.Want("250", c.Cmd("MAIL FROM:<alice@a.example>"+ret+" ENVID=a"))
		c.Want("250", c.Cmd("RCPT TO:<bob@b.example> NOTIFY=SUCCESS,FAILURE"))
		c.Want("354", c.Cmd("DATA"))
		c.Send(mailtest.Stuffed(mailtest.MessageFor(t, mailer.DirectionDecrypt, r.KM)))
		c.Want("250", c.Reply())
		if mail := hop.One().Mail; strings.Count(mail, "RET=") != 1 || !strings.Contains(mail, " RET=HDRS ENVID=a") {
			t.Errorf("after %q the next hop is asked with %s, want RET=HDRS: a bounce would quote the text", ret, mail)
		}
	}
}

// A next hop that offers an odd SIZE does no harm, and clients are offered what the relay
// itself takes.
func TestOddSizeOffered(t *testing.T) {
	mailtest.Directions(t, func(t *testing.T, d mailer.Direction) {
		mailtest.NoLeaks(t)
		for _, size := range []string{"SIZE  ", "SIZE x", "SIZE -1", "SIZE 99999999999999999999", "SIZE 9223372036854775807", "SIZE 1 2"} {
			hop := mailtest.StartHop(t, func(h *mailtest.Hop) { h.Extensions = []string{size} })
			r := mailtest.StartRelay(t, d, hop.Addr(), func(c *config.Config) { c.Limits.MessageSize = 12345 })
			c := mailtest.Connect(t, r)
			c.Want("250", c.Mail(mailtest.MessageFor(t, d, r.KM), "alice@a.example", "b@b.example"))
			hop.One()
			if offered := c.Cmd("EHLO c.example"); !strings.Contains(offered+"\r\n", "SIZE 12345\r\n") {
				t.Errorf("%q: the client is offered %q, want SIZE 12345", size, offered)
			}
			if err := r.Stop(); err != nil {
				t.Errorf("%q: %v", size, err)
			}
		}
	})
}

// A next hop may be several servers, of which some take 8-bit content. A message is judged
// by the one that it goes to, not by the one that was connected to last.
func TestEightBitOfOneServer(t *testing.T) {
	mailtest.Directions(t, func(t *testing.T, d mailer.Direction) {
		mailtest.NoLeaks(t)
		var mu sync.Mutex
		servers, able := 0, map[string]bool{} // by RCPT
		hop := mailtest.StartHop(t, func(h *mailtest.Hop) {
			h.PerConn = func() mailtest.Script {
				mu.Lock()
				defer mu.Unlock()
				servers++
				takes := servers%2 == 0
				return func(line string) string {
					mu.Lock()
					defer mu.Unlock()
					switch {
					case strings.HasPrefix(line, "EHLO") && takes:
						return "250-hop.example\r\n250 8BITMIME"
					case strings.HasPrefix(line, "EHLO"):
						return "250 hop.example"
					case strings.HasPrefix(line, "RCPT"):
						able[line] = takes
					}
					return ""
				}
			}
		})
		r := mailtest.StartRelay(t, d, hop.Addr())
		clients := map[string]*mailtest.Client{}
		for i := range 4 {
			c := mailtest.Connect(t, r)
			to := fmt.Sprintf("RCPT TO:<u%d@clear.example>", i)
			c.Want("250", c.Cmd("MAIL FROM:<x@x.example>"))
			c.Want("250", c.Cmd(to))
			clients[to] = c
		}
		for to, c := range clients {
			want := "554 5.6.3"
			if able[to] {
				want = "250"
			}
			c.Want("354", c.Cmd("DATA"))
			c.Send("From: x@x.example\r\n\r\ngr\xc3\xbc\xc3\x9fe\r\n.\r\n")
			if got := c.Reply(); !strings.HasPrefix(got, want) {
				t.Errorf("a server that takes 8-bit content, %v: %s, want %s", able[to], got, want)
			}
		}
	})
}
