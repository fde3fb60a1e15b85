package mailer

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/qkdmail/qkdmail/cipher"
)

// triggerPolicy returns a policy with rules of every mode and suite, to a peer with an
// X-Wing key and one without.
func triggerPolicy(key *cipher.HybridPublicKey, triggers ...Trigger) (*Policy, error) {
	o := PolicyOptions{Peers: []Peer{{Name: "plain", SAE: "P"}, {Name: "hybrid", SAE: "H", Hybrid: key}}, Triggers: triggers}
	for _, peer := range []string{"plain", "hybrid"} {
		for _, mode := range []Mode{Required, Opportunistic} {
			for _, suite := range []cipher.Suite{cipher.SuiteAuto, cipher.SuiteAES256GCM, cipher.SuiteOTP} {
				o.Rules = append(o.Rules, Rule{Domain: fmt.Sprintf("%s.%s.%s.example", suite, mode, peer), Peer: peer, Encrypt: mode, Suite: suite})
			}
		}
	}
	o.Rules = append(o.Rules, Rule{Domain: "default", Encrypt: Never})
	return NewPolicy(o)
}

func newHybridKey(t testing.TB) *cipher.HybridPublicKey {
	t.Helper()
	key, err := cipher.GenerateHybridKey()
	if err != nil {
		t.Fatal(err)
	}
	return key.Public()
}

// below says how a route has less protection than another, "" if it has not.
func below(raised, before Route) string {
	strength := map[cipher.Suite]int{"": 0, cipher.SuiteAES256GCM: 1, cipher.SuiteAuto: 2, cipher.SuiteOTP: 3}
	switch {
	case raised.Mode > before.Mode:
		return "another mode"
	case raised.Peer != before.Peer:
		return "another peer"
	case strength[raised.Suite.Plain()] < strength[before.Suite.Plain()]:
		return "a weaker suite"
	case before.Suite.Hybrid() && !raised.Suite.Hybrid():
		return "no X-Wing"
	case raised.Suite == cipher.SuiteAuto && raised.PadLimit < before.PadLimit:
		return "a smaller pad limit"
	case raised.Suite.Plain() == cipher.SuiteOTP && before.Suite != raised.Suite && raised.Mode != Required:
		// Opportunistic mail falls back on AES-256-GCM from auto, and from OTP on clear.
		return "nothing between a pad and clear"
	}
	return ""
}

// FuzzTriggers: whatever senders, headers and triggers there are, no recipient and no
// group of recipients gets less protection than without triggers.
func FuzzTriggers(f *testing.F) {
	f.Add("ceo@a.example", "Sensitivity: Company-Confidential\r\n\r\n", "ceo@a.example,*.legal.a.example", "sensitivity", "(?i)confidential", uint8(0b111111))
	f.Add("", "Subject: =?utf-8?Q?=5Bsecret=5D?=\r\n", "a.example", "Subject", `\[secret\]`, uint8(0b011001))
	f.Add("x@x.legal.a.example", "X: =?x-unknown?B?YQ==?=\r\nX:\r\n y\r\n", "*.legal.a.example", "X", "^y$", uint8(0b100110))
	f.Add("\"a b\"@[192.0.2.1]", "X: \xff\r\n", "[*]", "X", "", uint8(0b001011))
	key := newHybridKey(f)
	f.Fuzz(func(t *testing.T, from, header, senders, field, pattern string, want uint8) {
		bit := func(n int) bool { return want&(1<<n) != 0 }
		p, err := triggerPolicy(key,
			Trigger{Name: "sender", From: strings.Split(senders, ","), Encrypt: bit(0), Pad: bit(1)},
			Trigger{Name: "header", Header: field, Pattern: pattern, Encrypt: bit(2), Pad: bit(3)},
			Trigger{Name: "both", From: strings.Split(senders, ","), Header: field, Pattern: pattern, Encrypt: bit(4), Pad: bit(5)})
		if err != nil {
			if !errors.Is(err, ErrConfig) {
				t.Fatalf("%v is not an ErrConfig", err)
			}
			return
		}
		atRcpt := p.Raised(from, nil)
		atData := p.Raised(from, []byte(header))
		for domain, rule := range p.routes {
			checkRaises(t, domain, rule, atRcpt, atData, "b@"+domain)
		}
		checkRaises(t, "default", p.otherwise, atRcpt, atData, "b@elsewhere.example")
	})
}

// checkRaises follows a recipient from RCPT to the message.
func checkRaises(t *testing.T, rule string, before Route, atRcpt, atData *Policy, to string) {
	t.Helper()
	first := atRcpt.Outbound(to)
	s := &encryptSession{session: &session{step: &Step{Policy: atData}}, groups: []*group{{route: first, suite: first.Suite}, {route: first, suite: cipher.SuiteAES256GCM}}}
	if first.Suite != cipher.SuiteAuto {
		s.groups = s.groups[:1] // another suite is taken only in place of auto
	}
	s.raise(nil)
	for _, step := range []struct {
		name        string
		now, before Route
	}{{"RCPT", first, before}, {"the message", atData.Outbound(to), first}, {"the group's", s.groups[0].route, first}} {
		if lower := below(step.now, step.before); lower != "" {
			t.Fatalf("rule %s, %s: %s: %+v became %+v", rule, step.name, lower, step.before, step.now)
		}
	}
	for _, g := range s.groups {
		if g.route != atData.Outbound(to) {
			t.Fatalf("rule %s: the group's route is %+v, and that of a recipient is %+v", rule, g.route, atData.Outbound(to))
		}
		if g.route.Suite.Plain() == cipher.SuiteOTP && g.suite != g.route.Suite {
			t.Fatalf("rule %s: a pad is wanted, and the group has %s", rule, g.suite)
		}
	}
}

// What pulls a trigger, and what does not.
func TestTriggerPulled(t *testing.T) {
	key := newHybridKey(t)
	long := strings.Repeat("x", 9<<10)
	for _, tt := range []struct {
		name         string
		trigger      Trigger
		from, header string
		want         bool
	}{
		{"address", Trigger{From: []string{"ceo@a.example"}}, "ceo@a.example", "", true},
		{"address in other cases", Trigger{From: []string{"Ceo@A.example"}}, "cEO@a.EXAMPLE", "", true},
		{"quoted address", Trigger{From: []string{`"ceo"@a.example`}}, "ceo@a.example", "", true},
		{"address that is quoted", Trigger{From: []string{"ceo@a.example"}}, `"ceo"@a.example`, "", true},
		{"another spelling of it", Trigger{From: []string{"j\u00f6rg@b\u00fccher.example"}}, "jo\u0308rg@xn--bcher-kva.example", "", true},
		{"another address", Trigger{From: []string{"ceo@a.example"}}, "cfo@a.example", "", false},
		{"a longer one", Trigger{From: []string{"ceo@a.example"}}, "x.ceo@a.example", "", false},
		{"domain", Trigger{From: []string{"a.example"}}, "x@A.example.", "", true},
		{"domain beneath", Trigger{From: []string{"a.example"}}, "x@b.a.example", "", false},
		{"wildcard", Trigger{From: []string{"*.a.example"}}, "x@c.b.a.example", "", true},
		{"wildcard's own domain", Trigger{From: []string{"*.a.example"}}, "x@a.example", "", false},
		{"literal", Trigger{From: []string{"[192.0.2.1]"}}, "x@[192.0.2.1]", "", true},
		{"null sender", Trigger{From: []string{"a.example", "[*]"}}, "", "", false},
		{"second of several", Trigger{From: []string{"a.example", "b@b.example"}}, "b@b.example", "", true},

		{"field", Trigger{Header: "Sensitivity", Pattern: "(?i)company-confidential"}, "", "sensitivity : Company-Confidential\r\n", true},
		{"field, whatever its value", Trigger{Header: "X-Protect"}, "", "X-Protect:\r\n", true},
		{"another field", Trigger{Header: "X-Protect"}, "", "Y-Protect: yes\r\nX-Protect-2: yes\r\n", false},
		{"field in the body", Trigger{Header: "X-Protect"}, "", "A: b\r\n\r\nX-Protect: yes\r\n", false},
		{"another value", Trigger{Header: "Sensitivity", Pattern: "^Private$"}, "", "Sensitivity: Not Private\r\n", false},
		{"ends of the value", Trigger{Header: "Sensitivity", Pattern: "^Private$"}, "", "Sensitivity:\t Private \r\n", true},
		{"folded", Trigger{Header: "Subject", Pattern: `\[top secret\]`}, "", "Subject: about [top\r\n secret]\r\n", true},
		{"encoded words", Trigger{Header: "Subject", Pattern: `geheim: \x{c4}rger`}, "", "Subject: =?iso-8859-1?Q?geheim=3A?=\r\n =?iso-8859-1?Q?_=C4rger?=\r\n", true},
		{"an encoded word in quotes", Trigger{Header: "Subject", Pattern: "secret"}, "", "Subject: \"=?utf-8?B?c2VjcmV0?=\"\r\n", true},
		{"hidden characters", Trigger{Header: "Subject", Pattern: "secret"}, "", "Subject: se\u00adcret\r\n", true},
		{"second of several fields", Trigger{Header: "X", Pattern: "^2$"}, "", "X: 1\r\nX: 2\r\n", true},
		{"cut header", Trigger{Header: "X", Pattern: "^2$"}, "", "X: 2", true},

		// What can't be read.
		{"unknown charset", Trigger{Header: "X", Pattern: "secret"}, "", "X: =?x-unknown?B?YQ==?=\r\n", true},
		{"unknown encoding", Trigger{Header: "X", Pattern: "secret"}, "", "X: =?utf-8?Z?YQ==?=\r\n", true},
		{"no UTF-8", Trigger{Header: "X", Pattern: "secret"}, "", "X: \xe4\r\n", true},
		{"controls", Trigger{Header: "X", Pattern: "secret"}, "", "X: a\x01\r\n", true},
		{"too long", Trigger{Header: "X", Pattern: "secret"}, "", "X: " + long + "\r\n", true},
		{"too long together", Trigger{Header: "X", Pattern: "secret"}, "", strings.Repeat("X: "+long[:1<<10]+"\r\n", 9), true},
		{"another field that is too long", Trigger{Header: "X", Pattern: "secret"}, "", "Y: " + long + "\r\n", false},

		{"both", Trigger{From: []string{"a.example"}, Header: "X"}, "x@a.example", "X: 1\r\n", true},
		{"sender only", Trigger{From: []string{"a.example"}, Header: "X"}, "x@a.example", "Y: 1\r\n", false},
		{"field only", Trigger{From: []string{"a.example"}, Header: "X"}, "x@b.example", "X: 1\r\n", false},
	} {
		tt.trigger.Name, tt.trigger.Encrypt = "t", true
		p, err := triggerPolicy(key, tt.trigger)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if got := p.Raised(tt.from, []byte(tt.header)).Outbound("b@b.example").Trigger == "t"; got != tt.want {
			t.Errorf("%s: pulled is %v, want %v", tt.name, got, tt.want)
		}
	}
}

// What is wrong with triggers is reported with the field.
func TestTriggerErrors(t *testing.T) {
	key := newHybridKey(t)
	good := Trigger{Name: "t", From: []string{"a.example"}, Encrypt: true}
	for want, change := range map[string]func(*Trigger){
		"Triggers[0].Name: missing":                                    func(o *Trigger) { o.Name = "" },
		`Triggers[0].Name: "a b" must be letters`:                      func(o *Trigger) { o.Name = "a b" },
		`Triggers[1].Name: "t2" is the name of another`:                func(o *Trigger) { o.Name = "t2" },
		"Triggers[0].Encrypt: missing":                                 func(o *Trigger) { o.Encrypt = false },
		"Triggers[0].From: missing":                                    func(o *Trigger) { o.From = nil },
		"Triggers[0].From: empty":                                      func(o *Trigger) { o.From = []string{} },
		`Triggers[0].From[0]: "" must be a domain`:                     func(o *Trigger) { o.From = []string{""} },
		`Triggers[0].From[1]: "a b" must be a domain`:                  func(o *Trigger) { o.From = []string{"x.example", "a b"} },
		`Triggers[0].From[0]: "default" can be`:                        func(o *Trigger) { o.From = []string{"default"} },
		`Triggers[0].From[0]: "x@*.a.example" must be one`:             func(o *Trigger) { o.From = []string{"x@*.a.example"} },
		`Triggers[0].From[0]: "Bob <b@b.example>" must be a`:           func(o *Trigger) { o.From = []string{"Bob <b@b.example>"} },
		`Triggers[0].From[0]: "<> x@a.example" must be one`:            func(o *Trigger) { o.From = []string{"<> x@a.example"} },
		`Triggers[0].From[0]: "@a.example" must be one`:                func(o *Trigger) { o.From = []string{"@a.example"} },
		`Triggers[0].Header: "X:" must be the name`:                    func(o *Trigger) { o.Header = "X:" },
		`Triggers[0].Header: "two words" must be the name`:             func(o *Trigger) { o.Header = "two words" },
		"Triggers[0].Header: missing":                                  func(o *Trigger) { o.Pattern = "x" },
		"Triggers[0].Pattern: error parsing regexp: missing closing )": func(o *Trigger) { o.Header, o.Pattern = "X", "(" },
		"Triggers[0].Pattern: longer than 1000 bytes":                  func(o *Trigger) { o.Header, o.Pattern = "X", strings.Repeat("x", 1001) },
	} {
		first, second := good, good
		second.Name = "t2"
		change(&first)
		_, err := triggerPolicy(key, first, second)
		if err == nil || !errors.Is(err, ErrConfig) || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("error %v, want %s", err, want)
		}
	}
	if _, err := triggerPolicy(key, slices.Repeat([]Trigger{good}, 101)...); err == nil || !strings.HasPrefix(err.Error(), "Triggers: more than 100") {
		t.Errorf("101 triggers: %v", err)
	}
}
