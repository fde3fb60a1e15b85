package config

import (
	"errors"
	"strings"
	"testing"

	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/mailer"
)

// TestPadTrouble: whether a key manager's limits rule out the pads that rules ask for.
func TestPadTrouble(t *testing.T) {
	short, long := kmclient.Status{KeySize: 128, MaxKeySize: 128}, kmclient.Status{KeySize: 256, MaxKeySize: 256}
	for _, tt := range []struct {
		name    string
		rules   []Rule
		status  kmclient.Status
		waits   bool
		trouble bool
	}{
		{"auto", []Rule{{Peer: "b", Suite: "auto"}}, short, false, true},
		{"by default", []Rule{{Peer: "b"}}, short, false, true},
		{"otp", []Rule{{Peer: "b", Suite: "otp"}}, short, true, true},
		{"otp with X-Wing", []Rule{{Peer: "b", Suite: "otp+x-wing"}}, short, true, true},
		{"AES-256-GCM with X-Wing", []Rule{{Peer: "b", Suite: "aes-256-gcm+x-wing"}}, short, false, false},
		{"otp among others", []Rule{{Peer: "b"}, {Peer: "b", Suite: "OTP"}}, short, true, true},
		{"otp, keys that are long enough", []Rule{{Peer: "b", Suite: "otp"}}, long, false, false},
		{"no pad asked for", []Rule{{Peer: "b", Suite: "aes-256-gcm"}}, short, false, false},
		{"another peer's rule", []Rule{{Peer: "c", Suite: "otp"}}, short, false, false},
		{"never", []Rule{{Encrypt: mailer.Never}}, short, false, false},
		{"trigger, auto", []Rule{{Peer: "b"}}, short, true, true},
		{"trigger, AES-256-GCM", []Rule{{Peer: "b", Suite: "aes-256-gcm"}}, short, true, true},
		{"trigger, never", []Rule{{Encrypt: mailer.Never}}, short, false, false},
		{"trigger, keys that are long enough", []Rule{{Peer: "b"}}, long, false, false},
	} {
		c := &Config{Rules: tt.rules}
		if strings.HasPrefix(tt.name, "trigger") {
			c.Triggers = []Trigger{{Encrypt: "required"}, {Suite: "OTP"}}
		}
		waits, err := c.PadTrouble("b", tt.status)
		if waits != tt.waits || errors.Is(err, cipher.ErrPad) != tt.trouble || (err != nil) != tt.trouble {
			t.Errorf("%s: waits %v, %v; want %v and trouble %v", tt.name, waits, err, tt.waits, tt.trouble)
		}
	}
}

// If a program fills the Config, only the Inbound "optional" lets plain mail pass.
func TestInbound(t *testing.T) {
	for inbound, want := range map[string]bool{"": true, "required": true, "optional": false} {
		c := Default()
		c.Peers = []Peer{{Name: "b", Domains: []string{"b.example"}, Inbound: inbound}}
		p, err := c.Policy()
		if err != nil {
			t.Fatal(err)
		}
		if p.InboundRequired("b.example") != want {
			t.Errorf("%q: required is not %v", inbound, want)
		}
	}
}
