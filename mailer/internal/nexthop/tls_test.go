package nexthop_test

import (
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/qkdmail/qkdmail/mailer"
	"github.com/qkdmail/qkdmail/mailer/internal/mailtest"
	"github.com/qkdmail/qkdmail/mailer/internal/testcerts"
	"github.com/qkdmail/qkdmail/mailer/relay/config"
)

// TLS to the next hop: used if offered; if required, verified, and no mail goes without
// it. LMTP as well.
func TestNextHopTLS(t *testing.T) {
	certs := testcerts.Make(t)
	for _, tt := range []struct {
		name    string
		offered bool
		mode    config.TLSMode
		ca      string
		host    string
		tls     bool // the mail went in TLS
		want    string
	}{
		{"opportunistic, offered", true, config.TLSOpportunistic, "", "", true, "250"},
		{"opportunistic, not offered", false, config.TLSOpportunistic, "", "", false, "250"},
		{"off, offered", true, config.TLSOff, "", "", false, "250"},
		{"required, offered", true, config.TLSRequired, certs.CA, "", true, "250"},
		{"required, by name", true, config.TLSRequired, certs.CA, "hop.example", true, "250"},
		{"required, not offered", false, config.TLSRequired, certs.CA, "", false, "451 4.4.1"},
		{"required, other CA", true, config.TLSRequired, certs.OtherCA, "", false, "451 4.4.1"},
		{"required, other name", true, config.TLSRequired, certs.CA, "else.example", false, "451 4.4.1"},
	} {
		for _, lmtp := range []bool{false, true} {
			name := tt.name
			if lmtp {
				name += ", LMTP"
			}
			t.Run(name, func(t *testing.T) {
				mailtest.NoLeaks(t)
				hop := mailtest.StartHop(t, func(h *mailtest.Hop) {
					h.LMTP = lmtp
					if tt.offered {
						h.TLS = certs.Server(t)
					}
				})
				r := mailtest.StartRelay(t, mailer.DirectionEncrypt, hop.Addr(), func(c *config.Config) {
					n := &c.NextHops[0]
					n.TLS, n.TLSCA, n.TLSName = tt.mode, tt.ca, tt.host
					if lmtp {
						n.Protocol, c.Listeners[0].Protocol = config.LMTP, config.LMTP
					}
				})
				c := mailtest.Connect(t, r)
				c.Want(tt.want, c.Attempt(mailtest.Text+strings.Repeat("more.\r\n..dots\r\n", 20_000)))
				if tt.want != "250" {
					hop.None()
					return
				}
				m := hop.One()
				if m.TLS != tt.tls {
					t.Errorf("TLS %v", m.TLS)
				}
				if got := mailtest.Open(t, r.KM, m.Data); !strings.HasPrefix(got, mailtest.Text) || !strings.HasSuffix(got, "\r\n..dots\r\n") {
					t.Error("it is a different message")
				}
				c.Want("250", c.Attempt(mailtest.Text)) // on the kept connection
			})
		}
	}
}

// A man in the middle who speaks before TLS begins is not believed.
func TestNextHopSTARTTLSInjection(t *testing.T) {
	mailtest.NoLeaks(t)
	certs := testcerts.Make(t)
	hop := mailtest.StartHop(t, func(h *mailtest.Hop) {
		h.TLS = certs.Server(t)
		mailtest.Answering("STARTTLS", "220 go\r\n250 2.0.0 injected")(h)
	})
	r := mailtest.StartRelay(t, mailer.DirectionEncrypt, hop.Addr(), func(c *config.Config) {
		c.NextHops[0].TLS, c.NextHops[0].TLSCA = config.TLSRequired, certs.CA
	})
	c := mailtest.Connect(t, r)
	c.Want("451 4.4.1", c.Attempt(mailtest.Text))
	hop.None()
}

func TestNextHopAuth(t *testing.T) {
	mailtest.NoLeaks(t)
	certs := testcerts.Make(t)
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for offered, want := range map[bool]string{true: "250", false: "451 4.4.1"} {
		hop := mailtest.StartHop(t, func(h *mailtest.Hop) {
			if offered {
				h.TLS = certs.Server(t)
			}
			h.Extensions = append(h.Extensions, "AUTH PLAIN")
			h.Script = func(line string) string {
				switch {
				case line == "AUTH PLAIN "+mailtest.AuthPlain("bob", "secret"):
					return "235 2.7.0 welcome"
				case strings.HasPrefix(line, "AUTH"):
					return "535 5.7.8 no"
				}
				return ""
			}
		})
		r := mailtest.StartRelay(t, mailer.DirectionEncrypt, hop.Addr(), func(c *config.Config) {
			n := &c.NextHops[0]
			n.TLS, n.AuthUser, n.AuthPasswordFile = config.TLSOpportunistic, "bob", password // laxer than a file may say
		})
		c := mailtest.Connect(t, r)
		c.Want(want, c.Attempt(mailtest.Text))
		if !offered && strings.Contains(hop.Commands(), "AUTH") {
			t.Error("the password went in clear")
		}
		if strings.Contains(r.Log.String(), "secret") {
			t.Error("the password is in the log")
		}
	}
}

// TestNextHopToken sends an OAuth 2.0 token by the mechanism that the next hop has. When
// it has expired, mail waits for the next one.
func TestNextHopToken(t *testing.T) {
	mailtest.NoLeaks(t)
	certs := testcerts.Make(t)
	for offer, want := range map[string]string{
		"AUTH PLAIN XOAUTH2 OAUTHBEARER": "OAUTHBEARER n,a=bob,\x01auth=Bearer fresh\x01\x01",
		"AUTH LOGIN XOAUTH2":             "XOAUTH2 user=bob\x01auth=Bearer fresh\x01\x01",
	} {
		mechanism, initial, _ := strings.Cut(want, " ")
		hop := mailtest.StartHop(t, func(h *mailtest.Hop) {
			h.TLS = certs.Server(t)
			h.Extensions = append(h.Extensions, offer)
			h.Script = func(line string) string {
				switch {
				case line == "AUTH "+mechanism+" "+base64.StdEncoding.EncodeToString([]byte(initial)):
					return "235 2.7.0 welcome"
				case strings.HasPrefix(line, "AUTH"):
					return "334 eyJzdGF0dXMiOiI0MDEifQ=="
				}
				return ""
			}
		})
		token := filepath.Join(t.TempDir(), "token")
		write := func(text string) {
			if err := os.WriteFile(token, []byte(text+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		write("expired")
		r := mailtest.StartRelay(t, mailer.DirectionEncrypt, hop.Addr(), func(c *config.Config) {
			n := &c.NextHops[0]
			n.TLS, n.TLSCA, n.AuthUser, n.AuthTokenFile = config.TLSRequired, certs.CA, "bob", token
		})
		c := mailtest.Connect(t, r)
		c.Want("451 4.4.1", c.Attempt(mailtest.Text))
		write("fresh")
		c = mailtest.Connect(t, r)
		c.Want("250", c.Attempt(mailtest.Text))
		if log := r.Log.String(); strings.Contains(log, "fresh") || strings.Contains(log, "ZnJlc2g") || !strings.Contains(log, "it may have expired") {
			t.Errorf("the log has a token, or does not say what is wrong with it:\n%s", log)
		}
	}
}
