package mailer

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/qkdmail/qkdmail/cipher"
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

// The listener offers what the next hop can keep, in clear and in TLS.
func TestOffers(t *testing.T) {
	certs := makeCerts(t)
	always := []string{"ENHANCEDSTATUSCODES", "LIMITS RCPTMAX=1000", "PIPELINING"}
	for _, tt := range []struct {
		d    Direction
		ext  []string
		want []string
	}{
		{DirectionDecrypt, []string{"8BITMIME", "SMTPUTF8", "DSN", "SIZE 5000000", "CHUNKING", "BINARYMIME"}, []string{"8BITMIME", "SMTPUTF8", "DSN", fmt.Sprintf("SIZE %d", 5000000*137/100+16384)}},
		{DirectionDecrypt, nil, []string{"SIZE 104857600"}},
		{DirectionDecrypt, []string{"SIZE"}, []string{"SIZE 104857600"}},
		{DirectionDecrypt, []string{"SIZE 0", "DSN"}, []string{"SIZE 104857600", "DSN"}},
		{DirectionDecrypt, []string{"SIZE 999999999999"}, []string{"SIZE 104857600"}},
		{DirectionEncrypt, []string{"8BITMIME", "SMTPUTF8", "DSN", "SIZE 5000000", "CHUNKING"}, []string{"8BITMIME", "SMTPUTF8", "DSN", fmt.Sprintf("SIZE %d", (5000000-16384)*100/137)}},
		{DirectionEncrypt, nil, []string{"8BITMIME", "SIZE 104857600"}},
	} {
		t.Run(fmt.Sprint(tt.d, tt.ext), func(t *testing.T) {
			noLeaks(t)
			hop := startHop(t, func(h *testHop) { h.ext = tt.ext })
			r := startRelay(t, tt.d, hop.addr(), func(c *Config) {
				l := &c.Listeners[0]
				l.TLS, l.TLSCert, l.TLSKey = TLSOpportunistic, certs.cert, certs.key
			})
			c := connect(t, r)
			c.want("250", c.cmd("MAIL FROM:<x@x.example>")) // so that the next hop was seen
			c.want("250", c.cmd("RCPT TO:<y@y.example>"))
			c.want("250", c.cmd("RSET"))
			want := append(append([]string{"STARTTLS"}, always...), tt.want...)
			slices.Sort(want)
			if got := offered(c.cmd("EHLO x")); !slices.Equal(got, want) {
				t.Errorf("%q, want %q", got, want)
			}
			c.startTLS()
			want = slices.DeleteFunc(want, func(s string) bool { return s == "STARTTLS" })
			if got := offered(c.cmd("EHLO x")); !slices.Equal(got, want) {
				t.Errorf("in TLS %q, want %q", got, want)
			}
		})
	}
}

// CHUNKING is not offered; who speaks BDAT all the same is cut off, since the
// chunk would be taken for commands.
func TestBDAT(t *testing.T) {
	directions(t, func(t *testing.T, d Direction) {
		noLeaks(t)
		hop := startHop(t)
		r := startRelay(t, d, hop.addr())
		c := connect(t, r)
		c.want("250", c.cmd("MAIL FROM:<x@x.example>"))
		c.want("250", c.cmd("RCPT TO:<y@clear.example>"))
		c.send("BDAT 60 LAST\r\nMAIL FROM:<evil@x.example>\r\nRCPT TO:<evil@y.example>\r\nDATA\r\n")
		c.want("502", c.reply())
		c.closed()
		_ = r.stop()
		hop.none()
		if strings.Contains(hop.commands(), "evil") {
			t.Error("a chunk became commands")
		}
	})
}

// 8-bit content for a next hop without 8BITMIME is refused, and goes encrypted.
func TestEightBit(t *testing.T) {
	const message = "From: x@x.example\r\n\r\ngr\xc3\xbc\xc3\x9fe\r\n"
	for _, able := range []bool{true, false} {
		for _, tt := range []struct {
			name string
			d    Direction
			to   string
			mail func(t *testing.T, km *testKM) string
			want bool // even if the next hop is not able
		}{
			{"plain", DirectionDecrypt, "y@y.example", func(*testing.T, *testKM) string { return message }, false},
			{"restored", DirectionDecrypt, "y@y.example", func(t *testing.T, km *testKM) string { return seal(t, km, message) }, false},
			{"restored, LF", DirectionDecrypt, "y@y.example", func(t *testing.T, km *testKM) string {
				return seal(t, km, strings.ReplaceAll(message, "\r", ""))
			}, false},
			{"trace of restored", DirectionDecrypt, "y@y.example", func(t *testing.T, km *testKM) string {
				return "Received: from \xc3\xbc\r\n" + seal(t, km, "From: x@x.example\r\n\r\nascii\r\n")
			}, false},
			{"in clear", DirectionEncrypt, "y@clear.example", func(*testing.T, *testKM) string { return message }, false},
			{"encrypted", DirectionEncrypt, "y@b.example", func(*testing.T, *testKM) string { return message }, true},
		} {
			t.Run(fmt.Sprint(tt.name, able), func(t *testing.T) {
				noLeaks(t)
				hop := startHop(t, func(h *testHop) {
					if !able {
						h.ext = []string{"PIPELINING"}
					}
				})
				r := startRelay(t, tt.d, hop.addr())
				c := connect(t, r)
				want := "554 5.6.3"
				if able || tt.want {
					want = "250"
				}
				c.want(want, c.mail(tt.mail(t, r.km), "x@x.example", tt.to))
				if want != "250" {
					hop.none()
					return
				}
				if m := hop.one(); tt.d == DirectionEncrypt && tt.want && (hasEightBit([]byte(m.data)) || open(t, r.km, m.data) != message) {
					t.Errorf("%q", m.data)
				}
			})
		}
	}
}

// An SMTPUTF8 transaction stays one, with raw UTF-8 in the outer address
// fields; without the next hop's SMTPUTF8 it is refused for good.
func TestSMTPUTF8(t *testing.T) {
	const message = "From: <älice@ä.example>\r\nTo: <bøb@b.example>\r\nSubject: geheim\r\n\r\nbody\r\n"
	noLeaks(t)
	for _, able := range []bool{true, false} {
		hop := startHop(t, func(h *testHop) {
			if !able {
				h.ext = []string{"8BITMIME"}
			}
		})
		r := startRelay(t, DirectionEncrypt, hop.addr())
		c := connect(t, r)
		c.want("553 5.6.7", c.cmd("MAIL FROM:<älice@ä.example>"))
		c.want("250", c.cmd("MAIL FROM:<älice@ä.example> SMTPUTF8 BODY=8BITMIME"))
		if !able {
			c.want("550 5.6.7", c.cmd("RCPT TO:<bøb@b.example>"))
			continue
		}
		c.want("250", c.cmd("RCPT TO:<bøb@b.example>"))
		c.want("354", c.cmd("DATA"))
		c.send(stuffed(message))
		c.want("250", c.reply())
		m := hop.one()
		if m.mail != "MAIL FROM:<älice@ä.example> BODY=8BITMIME SMTPUTF8" || m.rcpts[0] != "RCPT TO:<bøb@b.example>" {
			t.Error(m.mail, m.rcpts)
		}
		if !strings.Contains(m.data, "\r\nFrom: <älice@ä.example>\r\n") && !strings.Contains(m.data, "\r\nFrom: älice@ä.example\r\n") {
			t.Errorf("the outer From: %s", clip(m.data))
		}
		if !strings.Contains(m.data, "with UTF8SMTP;") || open(t, r.km, m.data) != message {
			t.Errorf("%s", clip(m.data))
		}
		// And back again.
		back := startHop(t)
		d := startRelayWith(t, r.km, DirectionDecrypt, back.addr())
		c = connect(t, d)
		c.want("250", c.cmd("MAIL FROM:<älice@ä.example> SMTPUTF8"))
		c.want("250", c.cmd("RCPT TO:<bøb@b.example>"))
		c.want("354", c.cmd("DATA"))
		c.send(stuffed(m.data))
		c.want("250", c.reply())
		if got := back.one(); !strings.Contains(got.mail, " SMTPUTF8") || !strings.HasSuffix(got.data, message) {
			t.Error(got.mail, clip(got.data))
		}
	}
}

// DSN parameters go through to a next hop that has DSN.
func TestDSN(t *testing.T) {
	noLeaks(t)
	directions(t, func(t *testing.T, d Direction) {
		for _, able := range []bool{true, false} {
			hop := startHop(t, func(h *testHop) {
				if !able {
					h.ext = nil
				}
			})
			r := startRelay(t, d, hop.addr())
			c := connect(t, r)
			c.want("250", c.cmd("MAIL FROM:<x@x.example> RET=HDRS ENVID=a+2Bb+3D"))
			c.want("250", c.cmd("RCPT TO:<y@clear.example> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;y+2B@clear.example"))
			c.want("250", c.cmd("RSET"))
			commands := hop.commands()
			mail, rcpt := " RET=HDRS ENVID=a+2Bb+3D", " NOTIFY=SUCCESS,DELAY ORCPT=rfc822;y+2B@clear.example"
			if strings.Contains(commands, mail) != able || strings.Contains(commands, rcpt) != able {
				t.Errorf("able %v:\n%s", able, commands)
			}
		}
	})
}

// What the cipher finds in a message is told with a reply of its own each, and
// none of the errors of the packages below is forgotten.
func TestReplies(t *testing.T) {
	for _, err := range []error{
		cipher.ErrWrongKey, cipher.ErrAltered, cipher.ErrSAE, cipher.ErrVersion, cipher.ErrSuite, cipher.ErrDamaged,
	} {
		if r := replyTo(fmt.Errorf("x: %w", err)); r.Code != 550 || r.cause == nil || strings.Contains(r.Message, "x:") {
			t.Errorf("%v: %+v", err, r)
		}
	}
	if r := replyTo(fmt.Errorf("no such thing")); r.Code != 451 {
		t.Errorf("an unknown error: %+v", r)
	}
}
