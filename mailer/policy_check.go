package mailer

import (
	"slices"
	"strings"

	"github.com/qkdmail/qkdmail/cipher"
)

// policy checks what NewPolicy makes a policy of.
func (f *findings) policy() {
	own := map[string]int{}
	for i, d := range f.c.Site.Domains {
		key := entryKey("site.domains", i)
		f.domain(key, d, own, i, "site.domains")
	}
	f.rules(f.peers())
	f.oneOf("null_sender.inbound", f.c.NullSender.Inbound, NullSenderAccept, NullSenderRequired)
}

// peers returns the indices of the peers by their names.
func (f *findings) peers() map[string]int {
	names, saes, domains := map[string]int{}, map[string]int{}, map[string]int{}
	for i := range f.c.Peers {
		p, at := &f.c.Peers[i], entryKey("peer", i)
		f.name(names, "peer", i, p.Name)
		f.peerSAE(at, p.SAEID(), saes, i)
		for n, d := range p.Domains {
			key := entryKey(at+".domains", n)
			pattern, ok := f.domain(key, d, domains, i, "peer")
			if ok && slices.ContainsFunc(f.c.Site.Domains, func(own string) bool { o, err := domainPattern(own); return err == nil && o == pattern }) {
				f.add(key, "%q is one of our own, site.domains", d)
			}
		}
		if p.Inbound != InboundRequired && p.Inbound != InboundOptional {
			f.add(at+".inbound", "must be required or optional")
		}
		if p.Suites != nil && len(p.Suites) == 0 {
			f.add(at+".suites", "empty: nothing could be accepted from the peer")
		}
		for n, name := range p.Suites {
			if suite, err := cipher.ParseSuite(name); err != nil || suite == cipher.SuiteAuto {
				f.add(entryKey(at+".suites", n), "%q must be otp or aes-256-gcm", abridged(name))
			}
		}
	}
	return names
}

func (f *findings) peerSAE(at, sae string, taken map[string]int, i int) {
	key := at + ".sae"
	f.sae(key, sae)
	switch first, doubled := taken[sae]; {
	case sae == "" && strings.HasPrefix(f.c.KM.URL, "etsi014:"):
		f.add(key, "missing: ETSI GS QKD 014 needs the SAE ID of each peer")
	case sae == "" && doubled:
		f.add(key, "missing: peer %q has none either, so their mail could not be told apart", f.c.Peers[first].Name)
	case doubled:
		f.add(key, "%q is the SAE ID of peer %q", sae, f.c.Peers[first].Name)
	case sae != "" && sae == f.c.KM.SAE:
		f.add(key, "%q is our own SAE ID, km.sae", sae)
	default:
		taken[sae] = i
	}
}

// domain checks a pattern and that no other entry has it.
func (f *findings) domain(key, pattern string, taken map[string]int, i int, table string) (string, bool) {
	normal, err := domainPattern(pattern)
	if err != nil {
		f.add(key, "%q %v", abridged(pattern), err)
		return "", false
	}
	if table != "rule" && (normal == defaultDomain || normal[0] == '[') {
		f.add(key, "%q can be the domain of a rule only", pattern)
		return "", false
	}
	if first, ok := taken[normal]; ok {
		f.add(key, "%q is in another %s (line %d)", pattern, table, f.c.line(entryKey(table, first)))
		return "", false
	}
	taken[normal] = i
	return normal, true
}

func (f *findings) rules(peers map[string]int) {
	domains := map[string]int{}
	for i := range f.c.Rules {
		r, at := &f.c.Rules[i], entryKey("rule", i)
		if r.Domain == "" {
			f.add(at+".domain", "missing: a domain, or %q for all others", defaultDomain)
		} else {
			f.domain(at+".domain", r.Domain, domains, i, "rule")
		}
		f.rulePeer(at, r, peers)
		f.ruleSuite(at, r)
	}
	_, ok := domains[defaultDomain]
	if encrypts := f.c.encrypts(); !ok && (encrypts || len(f.c.Rules) > 0) {
		f.add("rule", "no rule with domain = %q says what happens to all other mail", defaultDomain)
	}
}

// encrypts reports whether a listener does.
func (c *Config) encrypts() bool {
	for i := range c.Listeners {
		if c.Listeners[i].Direction == DirectionEncrypt {
			return true
		}
	}
	return false
}

func (f *findings) rulePeer(at string, r *RuleConfig, peers map[string]int) {
	_, known := peers[r.Peer]
	switch {
	case r.Encrypt < Required || r.Encrypt > Never:
		f.add(at+".encrypt", "must be required, opportunistic or never")
	case r.Encrypt == Never && r.Peer != "":
		f.add(at+".peer", "a rule that never encrypts has no peer")
	case r.Encrypt != Never && r.Peer == "":
		f.add(at+".peer", "missing: encrypt = %q needs a peer", r.Encrypt)
	case r.Peer != "" && !known:
		f.add(at+".peer", "there is no [[peer]] with the name %q", abridged(r.Peer))
	}
}

func (f *findings) ruleSuite(at string, r *RuleConfig) {
	suite, err := cipher.ParseSuite(suiteOrAuto(r.Suite))
	switch {
	case err != nil:
		f.add(at+".suite", "%q must be auto, otp or aes-256-gcm", abridged(r.Suite))
	case r.PadLimit != 0 && (suite != cipher.SuiteAuto || r.Encrypt == Never):
		f.add(at+".pad_limit", "is for suite = \"auto\" only")
	case r.PadLimit < 0 || r.PadLimit > cipher.MaxPadLimit:
		f.add(at+".pad_limit", "%s must be at most %s", octets(int64(r.PadLimit)), octets(cipher.MaxPadLimit))
	}
}

// suiteOrAuto is the suite of a rule that may have none.
func suiteOrAuto(name string) string {
	if name == "" {
		return string(cipher.SuiteAuto)
	}
	return name
}
