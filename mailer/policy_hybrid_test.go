package mailer_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/mailer"
)

// TestHybridPolicy: with a peer's X-Wing key, all mail to the peer is hybrid, and so is
// all that is accepted from it unless the policy names other suites.
func TestHybridPolicy(t *testing.T) {
	private, err := cipher.GenerateHybridKey()
	if err != nil {
		t.Fatal(err)
	}
	hybrid := []cipher.Suite{cipher.SuiteAES256GCMXWing, cipher.SuiteOTPXWing}
	for _, c := range []struct {
		name     string
		key      *cipher.HybridPublicKey
		accepts  []cipher.Suite // as named
		suite    cipher.Suite   // of the rule
		accepted []cipher.Suite
		outgoing cipher.Suite
		explain  string
	}{
		{"no key", nil, nil, "", cipher.Suites(), cipher.SuiteAuto, "OTP for messages of up to 64 KiB, AES-256-GCM above"},
		{"no key, suites named", nil, hybrid[:1], "otp", hybrid[:1], cipher.SuiteOTP, "OTP"},
		{"key", private.Public(), nil, "", hybrid, cipher.SuiteAuto, "OTP+X-WING for messages of up to 64 KiB, AES-256-GCM+X-WING above"},
		{"key, plain suites named", private.Public(), []cipher.Suite{"otp"}, "otp", []cipher.Suite{cipher.SuiteOTP}, cipher.SuiteOTPXWing, "OTP+X-WING"},
		{"key, a plain suite in the rule", private.Public(), nil, "aes-256-gcm", hybrid, cipher.SuiteAES256GCMXWing, "AES-256-GCM+X-WING"},
		{"key, a hybrid suite in the rule", private.Public(), nil, "aes-256-gcm+x-wing", hybrid, cipher.SuiteAES256GCMXWing, "AES-256-GCM+X-WING"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := mailer.NewPolicy(mailer.PolicyOptions{
				Peers: []mailer.Peer{{Name: "b", Hybrid: c.key, Suites: c.accepts}},
				Rules: []mailer.Rule{{Domain: "default", Peer: "b", Suite: c.suite}},
			})
			if err != nil {
				t.Fatal(err)
			}
			if got := p.Peers()[0].Suites; !slices.Equal(got, c.accepted) {
				t.Errorf("accepted are %v, want %v", got, c.accepted)
			}
			if got := p.Outbound("bob@b.example").Suite; got != c.outgoing {
				t.Errorf("the suite is %s, want %s", got, c.outgoing)
			}
			var b strings.Builder
			if err := p.Explain(&b, "bob@b.example"); err != nil || !strings.Contains(b.String(), "  suite     "+c.explain+"\n") {
				t.Errorf("%v, want the suite %q in\n%s", err, c.explain, b.String())
			}
		})
	}
}

// TestHybridRuleWithoutKey: a rule must not promise what can't be kept.
func TestHybridRuleWithoutKey(t *testing.T) {
	for _, suite := range []cipher.Suite{cipher.SuiteOTPXWing, cipher.SuiteAES256GCMXWing, "otp+x-wing"} {
		_, err := mailer.NewPolicy(mailer.PolicyOptions{
			Peers: []mailer.Peer{{Name: "b"}},
			Rules: []mailer.Rule{{Domain: "default", Peer: "b", Suite: suite}},
		})
		if !errors.Is(err, mailer.ErrConfig) || !strings.Contains(err.Error(), `Rules[0].Suite: "`+string(suite)+`" needs the X-Wing key of peer "b"`) {
			t.Errorf("suite %s: %v", suite, err)
		}
	}
}
