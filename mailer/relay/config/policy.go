package config

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/mailer"
	"github.com/qkdmail/qkdmail/mailer/internal/address"
	"github.com/qkdmail/qkdmail/mailer/internal/readable"
)

// The values of inbound, for a peer and for reports.
const (
	inboundRequired = "required"
	inboundOptional = "optional"
	inboundAccept   = "accept"
)

// The values of recipients, for a peer.
const (
	recipientsSealed = "sealed"
	recipientsAny    = "any"
)

// Policy makes the policy from the site's domains, the peers, the rules, the triggers and
// the null sender. It checks only these; see [Config.Check]. It reads the X-Wing keys of
// the peers.
func (c *Config) Policy() (*mailer.Policy, error) {
	f := &findings{c: c}
	p := f.policy(f.peerKeys())
	if err := f.err(); err != nil {
		return nil, err
	}
	return p, nil
}

// policy makes the policy, nil with findings. keys are those of the peers, by their
// indices.
func (f *findings) policy(keys []*cipher.HybridPublicKey) *mailer.Policy {
	f.oneOf("null_sender.inbound", f.c.NullSender.Inbound, inboundAccept, inboundRequired)
	for i := range f.c.Peers {
		p, at := &f.c.Peers[i], entryKey("peer", i)
		if p.Inbound != "" || f.c.file != "" { // a file that says nothing has the default
			f.oneOf(at+".inbound", p.Inbound, inboundRequired, inboundOptional)
		}
		if p.SAEID() == "" && strings.HasPrefix(f.c.KM.URL, "etsi014:") {
			f.add(at+".sae", "missing: ETSI GS QKD 014 needs the SAE ID of each peer")
		}
	}
	if len(f.c.Rules) == 0 && f.c.Does(mailer.DirectionEncrypt) {
		f.add("rule", "no rule for the domain %q says what happens to all other mail", address.Default)
	}
	f.triggers()
	policy, err := mailer.NewPolicy(f.c.policyOptions(keys))
	f.fromPolicy(err)
	return policy
}

// triggers checks what triggers ask for: more than the rules, never less.
func (f *findings) triggers() {
	for i, t := range f.c.Triggers {
		at := entryKey("trigger", i)
		if t.Encrypt != "" && t.Encrypt != mailer.Required.String() {
			f.add(at+".encrypt", "%q must be required: a trigger raises protection, it never lowers it", readable.Short(t.Encrypt))
		}
		if t.Suite != "" && !t.pad() {
			f.add(at+".suite", "%q must be otp: a trigger raises protection, it never lowers it, and X-Wing is up to the peer", readable.Short(t.Suite))
		}
	}
}

// pad reports whether a trigger asks for a pad.
func (t *Trigger) pad() bool { return strings.EqualFold(t.Suite, string(cipher.SuiteOTP)) }

// Does reports whether any listener has this direction.
func (c *Config) Does(d mailer.Direction) bool {
	return slices.ContainsFunc(c.Listeners, func(l Listener) bool { return l.Direction == d })
}

// PadTrouble returns a cipher.ErrPad if a key manager with this status gives no keys for
// the pads that rules for a peer, or triggers, ask for, and nil if it does or if nothing
// asks for pads. waits reports whether a rule or trigger asks for nothing but pads, so
// that its mail waits; with auto, AES-256-GCM is used instead.
func (c *Config) PadTrouble(peer string, s kmclient.Status) (waits bool, err error) {
	asked, pulled := false, slices.ContainsFunc(c.Triggers, func(t Trigger) bool { return t.pad() })
	for _, r := range c.Rules {
		suite, _ := cipher.ParseSuite(cmp.Or(r.Suite, string(cipher.SuiteAuto)))
		if r.Encrypt == mailer.Never || r.Peer != peer || suite.Plain() == cipher.SuiteAES256GCM && !pulled {
			continue
		}
		asked = true
		waits = waits || pulled || suite.Plain() == cipher.SuiteOTP
	}
	if asked {
		_, err = cipher.PadCostOf(s, 1, 0)
	}
	return waits && err != nil, err
}

func (c *Config) policyOptions(keys []*cipher.HybridPublicKey) mailer.PolicyOptions {
	o := mailer.PolicyOptions{
		SAE: c.KM.SAE, Domains: c.Site.Domains, AllowPlainReports: c.NullSender.Inbound == inboundAccept,
	}
	for i := range c.Peers {
		p := &c.Peers[i]
		peer := mailer.Peer{
			Name: p.Name, SAE: p.SAEID(), Domains: p.Domains, AllowPlain: p.Inbound == inboundOptional,
			Hybrid: keys[i], AnyRecipient: p.Recipients == recipientsAny,
		}
		if p.Suites != nil {
			peer.Suites = make([]cipher.Suite, len(p.Suites))
		}
		for n, name := range p.Suites {
			peer.Suites[n] = cipher.Suite(name)
		}
		o.Peers = append(o.Peers, peer)
	}
	for i := range c.Rules {
		r := &c.Rules[i]
		rule := mailer.Rule{Domain: r.Domain, Peer: r.Peer, Encrypt: r.Encrypt, Suite: cipher.Suite(r.Suite), PadLimit: r.PadLimit}
		if n := c.line(entryKey("rule", i)); n > 0 {
			rule.Place = fmt.Sprintf("%s:%d", c.file, n)
		}
		o.Rules = append(o.Rules, rule)
	}
	for i := range c.Triggers {
		t := &c.Triggers[i]
		o.Triggers = append(o.Triggers, mailer.Trigger{
			Name: t.Name, From: t.From, Header: t.Header, Pattern: t.Pattern, Encrypt: t.Encrypt != "", Pad: t.Suite != "",
		})
	}
	return o
}

// fromPolicy adds what is wrong with a policy, under the keys of the file. It leaves out
// keys for which there is a finding already.
func (f *findings) fromPolicy(err error) {
	list := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		list = joined.Unwrap()
	}
	known := map[string]bool{}
	for _, e := range f.list {
		known[e.Key] = true
	}
	keys := strings.NewReplacer("Domains[", "site.domains[", "SAE", "km.sae", "Peers[", "peer[", "Rules[", "rule[", "Rules", "rule",
		"Triggers[", "trigger[", "Triggers", "trigger", ".From", ".from", ".Header", ".header", ".Pattern", ".pattern",
		".Name", ".name", ".SAE", ".sae", ".Domains[", ".domains[", ".Domain", ".domain", ".Peer", ".peer",
		".Encrypt", ".encrypt", ".Suites", ".suites", ".Suite", ".suite", ".PadLimit", ".pad_limit")
	for _, e := range list {
		wrong, ok := errors.AsType[*mailer.PolicyError](e)
		switch {
		case e == nil:
			continue
		case !ok:
			f.add("", "%v", e)
			continue
		case known[keys.Replace(wrong.Field)]:
			continue
		}
		message := wrong.Message
		if wrong.Other != "" {
			message += fmt.Sprintf(" (line %d)", f.c.line(keys.Replace(wrong.Other)))
		}
		f.add(keys.Replace(wrong.Field), "%s", message)
	}
}
