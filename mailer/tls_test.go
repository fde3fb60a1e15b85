package mailer

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TLS to the next hop: taken where offered, verified where required, for LMTP
// as well, and no mail without it then.
func TestNextHopTLS(t *testing.T) {
	certs := makeCerts(t)
	for _, tt := range []struct {
		name    string
		offered bool
		mode    TLSMode
		ca      string
		host    string
		tls     bool // the mail went in TLS
		want    string
	}{
		{"opportunistic, offered", true, TLSOpportunistic, "", "", true, "250"},
		{"opportunistic, not offered", false, TLSOpportunistic, "", "", false, "250"},
		{"off, offered", true, TLSOff, "", "", false, "250"},
		{"required, offered", true, TLSRequired, certs.ca, "", true, "250"},
		{"required, by name", true, TLSRequired, certs.ca, "hop.example", true, "250"},
		{"required, not offered", false, TLSRequired, certs.ca, "", false, "451 4.4.1"},
		{"required, other CA", true, TLSRequired, certs.otherCA, "", false, "451 4.4.1"},
		{"required, other name", true, TLSRequired, certs.ca, "else.example", false, "451 4.4.1"},
	} {
		for _, lmtp := range []bool{false, true} {
			name := tt.name
			if lmtp {
				name += ", LMTP"
			}
			t.Run(name, func(t *testing.T) {
				noLeaks(t)
				hop := startHop(t, func(h *testHop) {
					h.lmtp = lmtp
					if tt.offered {
						h.tls = certs.server(t)
					}
				})
				r := startRelay(t, DirectionEncrypt, hop.addr(), func(c *Config) {
					n := &c.NextHops[0]
					n.TLS, n.TLSCA, n.TLSName = tt.mode, tt.ca, tt.host
					if lmtp {
						n.Protocol, c.Listeners[0].Protocol = ProtocolLMTP, ProtocolLMTP
					}
				})
				c := connect(t, r)
				c.want(tt.want, attempt(c, testMessage+strings.Repeat("more.\r\n..dots\r\n", 20_000)))
				if tt.want != "250" {
					hop.none()
					return
				}
				m := hop.one()
				if m.tls != tt.tls {
					t.Errorf("TLS %v", m.tls)
				}
				if got := open(t, r.km, m.data); !strings.HasPrefix(got, testMessage) || !strings.HasSuffix(got, "\r\n..dots\r\n") {
					t.Error("the message is another")
				}
				c.want("250", attempt(c, testMessage)) // on the kept connection
			})
		}
	}
}

// A man in the middle that speaks before TLS does is not believed.
func TestNextHopSTARTTLSInjection(t *testing.T) {
	noLeaks(t)
	certs := makeCerts(t)
	hop := startHop(t, func(h *testHop) {
		h.tls = certs.server(t)
		answering("STARTTLS", "220 go\r\n250 2.0.0 injected")(h)
	})
	r := startRelay(t, DirectionEncrypt, hop.addr(), func(c *Config) {
		c.NextHops[0].TLS, c.NextHops[0].TLSCA = TLSRequired, certs.ca
	})
	c := connect(t, r)
	c.want("451 4.4.1", attempt(c, testMessage))
	hop.none()
}

func TestNextHopAuth(t *testing.T) {
	noLeaks(t)
	certs := makeCerts(t)
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for offered, want := range map[bool]string{true: "250", false: "451 4.4.1"} {
		hop := startHop(t, func(h *testHop) {
			if offered {
				h.tls = certs.server(t)
			}
			h.ext = append(h.ext, "AUTH PLAIN")
			h.script = func(line string) string {
				switch {
				case line == "AUTH PLAIN "+plain("bob", "secret"):
					return "235 2.7.0 welcome"
				case strings.HasPrefix(line, "AUTH"):
					return "535 5.7.8 no"
				}
				return ""
			}
		})
		r := startRelay(t, DirectionEncrypt, hop.addr(), func(c *Config) {
			n := &c.NextHops[0]
			n.TLS, n.AuthUser, n.AuthPasswordFile = TLSOpportunistic, "bob", password // laxer than a file may say
		})
		c := connect(t, r)
		c.want(want, attempt(c, testMessage))
		if !offered && strings.Contains(hop.commands(), "AUTH") {
			t.Error("the password went in clear")
		}
		if strings.Contains(r.log.String(), "secret") {
			t.Error("the password is in the log")
		}
	}
}
