package mailer_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"unicode"

	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/mailer"
	"github.com/qkdmail/qkdmail/mailer/relay/config"
)

// encrypting is a configuration without peers and rules.
const encrypting = `hostname = "relay.example"
[[listener]]
name = "out"
direction = "encrypt"
address = "127.0.0.1:10025"
next_hop = "mta"
[[next_hop]]
name = "mta"
address = "127.0.0.1:10027"
[km]
url = "mock:"
sae = "SAE_A"

`

// policyText is the policy of most tests here: three peers, nested domains.
const policyText = encrypting + `[[peer]]
name = "b"
sae = "SAE_B"
domains = ["b.example", "*.b.example", "bücher.example"]
[[peer]]
name = "c"
sae = "SAE_C"
domains = ["c.b.example", "*.c.b.example"]
inbound = "optional"
suites = ["otp"]
[[peer]]
name = "mock"
domains = ["mock.example"]

[[rule]]
domain = "b.example"
peer = "b"
[[rule]]
domain = "*.b.example"
peer = "b"
encrypt = "opportunistic"
suite = "aes-256-gcm"
[[rule]]
domain = "*.c.b.example"
peer = "c"
suite = "otp"
[[rule]]
domain = "plain.c.b.example"
encrypt = "never"
[[rule]]
domain = "BÜCHER.example."
peer = "b"
pad_limit = "1 KiB"
[[rule]]
domain = "mock.example"
peer = "mock"
[[rule]]
domain = "default"
encrypt = "never"
`

func policyOf(t *testing.T, text string) *mailer.Policy {
	t.Helper()
	c, err := config.Parse("relay.toml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	p, err := c.Policy()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestOutbound(t *testing.T) {
	p := policyOf(t, policyText)
	for _, test := range []struct{ address, rule, peer string }{
		{"user@b.example", "b.example", "b"},
		{"user@B.Example.", "b.example", "b"},
		{"user@b.example..", "b.example", "b"},
		{"user@x.b.example", "*.b.example", "b"},
		{"user@y.x.b.example", "*.b.example", "b"},
		{"user@xb.example", "default", ""},
		{"user@example", "default", ""},
		{"user@c.b.example", "*.b.example", "b"}, // a wildcard is not for its own domain
		{"user@x.c.b.example", "*.c.b.example", "c"},
		{"user@plain.c.b.example", "plain.c.b.example", ""},
		{"user@x.plain.c.b.example", "*.c.b.example", "c"},
		{"user@bücher.example", "xn--bcher-kva.example", "b"},
		{"user@bu\u0308cher.example", "xn--bcher-kva.example", "b"},
		{"user@BÜCHER。example", "xn--bcher-kva.example", "b"},
		{"user@XN--BCHER-KVA.example", "xn--bcher-kva.example", "b"},
		{"user@ｂ.example", "b.example", "b"},
		{"user@b\u00ad.example", "b.example", "b"},
		{"user@b_x.b.example", "*.b.example", "b"},
		{"user@ü_.\xff.b.example", "*.b.example", "b"},
		{`"a@c.example"@b.example`, "b.example", "b"},
		{`"a\"@c.example"@b.example`, "b.example", "b"},
		{`"user@b.example`, "b.example", "b"},
		{"@relay.example:user@b.example", "b.example", "b"},
		{"user@b.example@other.example", "default", ""},
		{`"user@b.example"`, "default", ""},
		{"user@[192.0.2.1]", "default", ""},
		{"user@[x.b.example]", "default", ""},
		{"user@[IPv6:2001:db8::1]", "default", ""},
		{"user", "default", ""},
		{"user@", "default", ""},
		{"user@.", "default", ""},
		{"@", "default", ""},
		{"", "default", ""},
		{"user@default", "default", ""},
		{"user@*.b.example", "*.b.example", "b"},
		{"user@" + strings.Repeat("a.", 100_000) + "b.example", "default", ""},
		{"user@" + strings.Repeat("ü", 100_000) + ".b.example", "default", ""},
		{strings.Repeat("@", 100_000), "default", ""},
	} {
		r := p.Outbound(test.address)
		name := ""
		if r.Peer != nil {
			name = r.Peer.Name
		}
		if r.Rule != test.rule || name != test.peer {
			t.Errorf("%.60q takes rule %q and peer %q, want %q and %q", test.address, r.Rule, name, test.rule, test.peer)
		}
	}
}

func TestRoutes(t *testing.T) {
	p := policyOf(t, policyText)
	b, _ := p.PeerBySAE("SAE_B")
	c, _ := p.PeerBySAE("SAE_C")
	for address, want := range map[string]mailer.Route{
		"u@b.example":         {Peer: b, Mode: mailer.Required, Suite: cipher.SuiteAuto, PadLimit: cipher.DefaultPadLimit, Rule: "b.example"},
		"u@x.b.example":       {Peer: b, Mode: mailer.Opportunistic, Suite: cipher.SuiteAES256GCM, Rule: "*.b.example"},
		"u@x.c.b.example":     {Peer: c, Mode: mailer.Required, Suite: cipher.SuiteOTP, Rule: "*.c.b.example"},
		"u@plain.c.b.example": {Mode: mailer.Never, Rule: "plain.c.b.example"},
		"u@bücher.example":    {Peer: b, Mode: mailer.Required, Suite: cipher.SuiteAuto, PadLimit: 1024, Rule: "xn--bcher-kva.example"},
		"u@other.example":     {Mode: mailer.Never, Rule: "default"},
	} {
		if got := p.Outbound(address); got != want {
			t.Errorf("%s: got %+v, want %+v", address, got, want)
		}
	}
}

// Without rules nothing leaves in clear.
func TestOutboundWithoutRules(t *testing.T) {
	p, err := mailer.NewPolicy(mailer.PolicyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if r := p.Outbound("user@b.example"); r != (mailer.Route{Mode: mailer.Required}) {
		t.Errorf("got %+v", r)
	}
}

func TestSameGroup(t *testing.T) {
	b, c := &mailer.Peer{Name: "b"}, &mailer.Peer{Name: "c"}
	r := mailer.Route{Peer: b, Suite: cipher.SuiteAuto, PadLimit: 1, Rule: "b.example"}
	for i, test := range []struct {
		change func(r *mailer.Route)
		same   bool
	}{
		{func(r *mailer.Route) { r.Rule = "*.b.example" }, true},
		{func(r *mailer.Route) { r.Peer = c }, false},
		{func(r *mailer.Route) { r.Mode = mailer.Opportunistic }, false},
		{func(r *mailer.Route) { *r = mailer.Route{Mode: mailer.Never} }, false},
		{func(r *mailer.Route) { r.Suite = cipher.SuiteOTP }, false},
		{func(r *mailer.Route) { r.PadLimit = 2 }, false},
	} {
		o := r
		test.change(&o)
		if r.SameGroup(o) != test.same || o.SameGroup(r) != test.same {
			t.Errorf("%d: not %v", i, test.same)
		}
	}
	if !(mailer.Route{Mode: mailer.Never, Rule: "a.example"}).SameGroup(mailer.Route{Mode: mailer.Never, Rule: "default"}) {
		t.Error("two plain recipients need two messages")
	}
}

func TestPeers(t *testing.T) {
	p := policyOf(t, policyText)
	peers := p.Peers()
	var names []string
	for _, peer := range peers {
		names = append(names, peer.Name)
		if found, ok := p.PeerBySAE(peer.SAE); !ok || found != peer {
			t.Errorf("%q is not the peer with SAE %q", peer.Name, peer.SAE)
		}
	}
	if !slices.Equal(names, []string{"b", "c", "mock"}) || peers[2].SAE != "" {
		t.Errorf("the peers are %v", names)
	}
	if want := []string{"b.example", "*.b.example", "xn--bcher-kva.example"}; !slices.Equal(peers[0].Domains, want) {
		t.Errorf("the domains are %v", peers[0].Domains)
	}
	if !peers[0].Accepts(cipher.SuiteAES256GCM) || !peers[0].Accepts(cipher.SuiteOTP) || peers[0].Accepts(cipher.SuiteAuto) {
		t.Error("a peer without suites must take all")
	}
	if peers[1].Accepts(cipher.SuiteAES256GCM) || !peers[1].Accepts(cipher.SuiteOTP) {
		t.Error("a peer with otp must take that only")
	}
	for _, sae := range []string{"SAE_A", "sae_b", "-", "SAE_B "} {
		if _, ok := p.PeerBySAE(sae); ok {
			t.Errorf("%q is no peer's", sae)
		}
	}
	peers[0] = nil
	if p.Peers()[0] == nil {
		t.Error("the policy can be changed from outside")
	}
}

func TestPeerOfDomain(t *testing.T) {
	p := policyOf(t, policyText)
	for domain, want := range map[string]string{
		"b.example": "b", "B.EXAMPLE.": "b", "x.b.example": "b", "c.b.example": "c", "y.x.c.b.example": "c",
		"Bücher.example": "b", "example": "", "": "", "xb.example": "", "[b.example]": "",
	} {
		peer, ok := p.PeerOfDomain(domain)
		if ok != (want != "") || ok && peer.Name != want {
			t.Errorf("%q is of %v", domain, peer)
		}
	}
}

func TestInboundRequired(t *testing.T) {
	p := policyOf(t, policyText)
	for domain, want := range map[string]bool{
		"": false, "other.example": false,
		"c.b.example": false, "x.c.b.example": false, // optional
		"B.example": true, "bücher.example": true, "d.b.example": true, "b.example.": true,
	} {
		if got := p.InboundRequired(domain); got != want {
			t.Errorf("%q: %v, want %v", domain, got, want)
		}
	}
}

// A rule may name an address literal, in any form, or all of them; without such a rule
// they take the default rule.
func TestRulesForAddressLiterals(t *testing.T) {
	const rules = encrypting + `[[peer]]
name = "b"
sae = "SAE_B"
[[rule]]
domain = "[192.0.2.1]"
peer = "b"
[[rule]]
domain = "[IPv6:2001:DB8::1]"
peer = "b"
[[rule]]
domain = "default"
encrypt = "never"
`
	for _, all := range []bool{false, true} {
		text, other := rules, "default"
		if all {
			text, other = rules+"[[rule]]\ndomain = \"[*]\"\npeer = \"b\"\n", "[*]"
		}
		p := policyOf(t, text)
		for address, want := range map[string]string{
			"u@[192.0.2.1]": "[192.0.2.1]", "u@[192.0.2.2]": other, "u@192.0.2.1": "default",
			"u@[IPv6:2001:db8::1]": "[IPv6:2001:db8::1]", "u@[ipv6:2001:db8:0:0:0:0:0:1]": "[IPv6:2001:db8::1]", "u@[IPv6:::1]": other,
			"u@[2001:db8::1]": other, "u@[x-tag:what]": other, "u@b.example": "default",
		} {
			if got := p.Outbound(address).Rule; got != want {
				t.Errorf("rule for all %v: %s takes %q, want %q", all, address, got, want)
			}
		}
	}
}

func TestReports(t *testing.T) {
	p := policyOf(t, policyText+"[null_sender]\ninbound = \"accept\"\n")
	var b strings.Builder
	if err := p.Explain(&b, "u@b.example"); err != nil || !strings.Contains(b.String(), "except for reports") {
		t.Errorf("%v:\n%s", err, b.String())
	}
}

func TestNewPolicyErrors(t *testing.T) {
	for want, o := range map[string]mailer.PolicyOptions{
		"Rules[0].Peer: missing":              {Rules: []mailer.Rule{{Domain: "default"}}},
		"Rules: no rule for the domain":       {Rules: []mailer.Rule{{Domain: "b.example", Encrypt: mailer.Never}}},
		"Rules[0].Encrypt: must be required":  {Rules: []mailer.Rule{{Domain: "default", Encrypt: 3}}},
		"Peers[0].Name: missing":              {Peers: []mailer.Peer{{}}},
		"Peers[0].Name: \"b\\r\\nX: y\" must": {Peers: []mailer.Peer{{Name: "b\r\nX: y"}}},
		"Domains[1]: \"A.example\" is there":  {Domains: []string{"a.example", "A.example"}},
		"SAE: \"-\" stands for none":          {SAE: "-"},
	} {
		_, err := mailer.NewPolicy(o)
		if found, ok := errors.AsType[*mailer.PolicyError](err); !ok || !errors.Is(err, mailer.ErrConfig) || !strings.HasPrefix(found.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

func TestModeText(t *testing.T) {
	for _, m := range []mailer.Mode{mailer.Required, mailer.Opportunistic, mailer.Never} {
		got := mailer.Mode(-1)
		if err := got.UnmarshalText([]byte(m.String())); err != nil || got != m {
			t.Errorf("%v comes back as %v, %v", m, got, err)
		}
	}
	if s := fmt.Sprint(mailer.Mode(7), mailer.Mode(-1)); s != "invalid(7) invalid(-1)" {
		t.Error(s)
	}
}

// A policy is used by many sessions at once.
func TestPolicyShared(t *testing.T) {
	p := policyOf(t, policyText)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 200 {
				p.Outbound("user@bücher.example")
				p.InboundRequired("user@b.example")
				if err := p.Explain(&bytes.Buffer{}, "user@b.example"); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

func TestExplain(t *testing.T) {
	p := policyOf(t, policyText)
	for address, want := range map[string][]string{
		"u@B.example":          {"domain    b.example", "rule      b.example (relay.toml:28)", `is encrypted for peer "b", SAE SAE_B, or waits`, "OTP for messages of up to 64 KiB", `must come encrypted from peer "b"`},
		"u@x.b.example":        {"rule      *.b.example (relay.toml:31)", "or leaves in clear where the key manager has no key", "suite     AES-256-GCM"},
		"u@x.c.b.example":      {`comes encrypted from peer "c", SAE SAE_C, or passes in clear`},
		"u@mock.example":       {`is encrypted for peer "mock", or waits`},
		"u@other.example":      {"rule      default", "leaves as it is", "no peer has this domain"},
		"u@[192.0.2.1]":        {"domain    [192.0.2.1]", "rule      default"},
		"postmaster":           {"rule      default", `mail to   has no domain, so the default rule counts, encrypt = "never"; it is for the postmaster of whoever gets it (RFC 5321 §4.5.1)`},
		"Postmaster":           {"rule      default", "has no domain"},
		"postmaster@b.example": {"rule      b.example", `is encrypted for peer "b"`},
		`"u @ v"@b.example`:    {"rule      b.example"},
		"u..v@b.example":       {"rule      b.example"}, // which some mailboxes have, and the relay takes
		"ü@bücher.test":        {"xn--bcher-kva.test"},
		"u@xn--bcher-kva.test": {"xn--bcher-kva.test"},
	} {
		var b strings.Builder
		if err := p.Explain(&b, address); err != nil {
			t.Fatal(err)
		}
		for _, w := range want {
			if !strings.Contains(b.String(), w) {
				t.Errorf("%q is not in\n%s", w, b.String())
			}
		}
		if n := strings.Count(b.String(), "\n"); n > 6 || strings.ContainsRune(b.String(), '\x1b') {
			t.Errorf("%d lines:\n%s", n, b.String())
		}
	}
	for _, address := range []string{"", " ", "b.example", "@b.example", "u@", "u", "u@b.example ", " u@b.example", "u@b.example\n", "u@b example",
		"<u@b.example>", "Bob <u@b.example>", "u@b.example (Bob)", "u@v@b.example", "u@@b.example", "u@b..example", "u@.b.example",
		"u v@b.example", `"u"v@b.example`, `"u@b.example`, "u@b.example, v@b.example", "u@b.example;", "mailto:u@b.example", "u@\x1b[2J\n.example", "u@b.example\x00",
		"postmaster ", "<postmaster>", "\xffu@b.example", "u@[192.0.2.1", "*@b.example,", "u@b,example"} {
		var b strings.Builder
		if err := p.Explain(&b, address); !errors.Is(err, mailer.ErrAddress) || b.Len() > 0 {
			t.Errorf("%q: %v, want an ErrAddress, and nothing said:\n%s", address, err, b.String())
		} else if strings.ContainsFunc(err.Error(), unicode.IsControl) {
			t.Errorf("%q: the error has control characters", address)
		}
	}
	none, err := mailer.NewPolicy(mailer.PolicyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := none.Explain(&b, "u@b.example"); err != nil || !strings.Contains(b.String(), "can't leave") {
		t.Errorf("%v:\n%s", err, b.String())
	}
	closed, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer closed.Close()
	if p.Explain(closed, "u@b.example") == nil {
		t.Error("writing to a file that is open for reading works")
	}
}

func BenchmarkOutbound(b *testing.B) {
	c, err := config.Parse("relay.toml", []byte(policyText))
	if err != nil {
		b.Fatal(err)
	}
	p, err := c.Policy()
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		p.Outbound("user@y.x.b.example")
	}
}
