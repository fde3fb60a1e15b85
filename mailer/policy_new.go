package mailer

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/mailer/internal/address"
	"github.com/qkdmail/qkdmail/mailer/internal/readable"
)

// PolicyOptions are what a [Policy] is made of.
type PolicyOptions struct {
	SAE     string   // our own SAE ID; "": none
	Domains []string // of this site's users; a peer may not send mail in their name
	Peers   []Peer
	// Rules may be empty if no mail is encrypted. If there are any, one must be for
	// "default".
	Rules    []Rule
	Triggers []Trigger // raise what the rules say
	// AllowPlainReports lets plain mail with the null sender, MAIL FROM:<>, pass.
	// Then anyone can send plain mail in the name of a domain that has to encrypt,
	// by sending it as a report.
	AllowPlainReports bool
}

// A PolicyError is one thing that is wrong with [PolicyOptions]. It is an
// ErrConfig.
type PolicyError struct {
	Field   string // such as "Peers[0].Domains[1]"
	Message string
	Other   string // the field that has the same value; ""
}

// Error returns FIELD: MESSAGE.
func (e *PolicyError) Error() string { return e.Field + ": " + e.Message }

// Unwrap returns ErrConfig.
func (e *PolicyError) Unwrap() error { return ErrConfig }

// NewPolicy makes a policy. The error joins everything that is wrong with o, each a
// *[PolicyError].
func NewPolicy(o PolicyOptions) (*Policy, error) {
	m := &policyMaker{
		o: &o, names: map[string]int{}, own: map[string]string{}, domains: map[string]string{},
		p: &Policy{
			sae: o.SAE, bySAE: map[string]*Peer{}, byDomain: address.Table[*Peer]{}, own: address.Table[struct{}]{},
			routes: address.Table[Route]{}, places: map[string]string{}, plainReports: o.AllowPlainReports,
		},
	}
	m.sae("SAE", o.SAE)
	m.ownDomains()
	for i := range o.Peers {
		m.peer(i)
	}
	m.rules()
	m.triggers()
	if len(m.errs) > 0 {
		return nil, errors.Join(m.errs...)
	}
	return m.p, nil
}

// A policyMaker makes a policy, and collects what is wrong with its options.
type policyMaker struct {
	o       *PolicyOptions
	p       *Policy
	names   map[string]int    // of the peers
	own     map[string]string // the field that a domain of the site is in
	domains map[string]string // the field that a peer's domain is in
	errs    []error
}

// wrong notes what is wrong with a field. other is the field that has this value
// already, or "".
func (m *policyMaker) wrong(field, other, format string, args ...any) {
	m.errs = append(m.errs, &PolicyError{Field: field, Message: fmt.Sprintf(format, args...), Other: other})
}

func entry(list string, i int) string { return fmt.Sprintf("%s[%d]", list, i) }

// sae checks an SAE ID. What a message can't carry is percent-encoded there, three
// bytes for one.
func (m *policyMaker) sae(field, sae string) {
	if sae == "-" {
		m.wrong(field, "", `"-" stands for none in messages: leave it out`)
	} else if len(sae) > kmclient.MaxIDLength/3 || sae != readable.Line(sae) {
		m.wrong(field, "", "%q must be printable, at most %d bytes", readable.Short(sae), kmclient.MaxIDLength/3)
	}
}

// domain normalises the domain of a site.
func (m *policyMaker) domain(field, domain string) (pattern string, ok bool) {
	pattern, err := address.Pattern(domain)
	switch {
	case err != nil:
		m.wrong(field, "", "%q %v", readable.Short(domain), err)
	case pattern == address.Default || pattern[0] == '[':
		m.wrong(field, "", "%q can be the domain of a rule only", domain)
	default:
		return pattern, true
	}
	return "", false
}

func (m *policyMaker) ownDomains() {
	for i, d := range m.o.Domains {
		field := entry("Domains", i)
		pattern, ok := m.domain(field, d)
		if other, doubled := m.own[pattern]; ok && doubled {
			m.wrong(field, other, "%q is there already", d)
		} else if ok {
			m.own[pattern], m.p.own[pattern] = field, struct{}{}
		}
	}
}

func (m *policyMaker) peer(i int) {
	at := entry("Peers", i)
	peer := m.o.Peers[i]
	m.p.peers = append(m.p.peers, &peer)
	m.name("Peers", i, peer.Name, "peer", m.names) // it goes into a header field that filters read
	m.peerSAE(at+".SAE", &peer)
	peer.Domains = m.peerDomains(at+".Domains", &peer)
	peer.Suites = m.suites(at+".Suites", &peer)
}

// name checks the name of a peer or trigger. taken has the entries before it, by name.
func (m *policyMaker) name(list string, i int, name, what string, taken map[string]int) {
	field := entry(list, i) + ".Name"
	switch first, doubled := taken[name]; {
	case name == "":
		m.wrong(field, "", "missing")
	case !readable.IsName(name):
		m.wrong(field, "", "%q must be %s", readable.Short(name), readable.NameForm)
	case doubled:
		m.wrong(field, entry(list, first)+".Name", "%q is the name of another %s", name, what)
	default:
		taken[name] = i
	}
}

func (m *policyMaker) peerSAE(field string, peer *Peer) {
	m.sae(field, peer.SAE)
	switch first, doubled := m.p.bySAE[peer.SAE]; {
	case peer.SAE == "" && doubled:
		m.wrong(field, "", "missing: peer %q has none either, so there would be no way to tell whose mail is whose", first.Name)
	case doubled:
		m.wrong(field, "", "%q is the SAE ID of peer %q", peer.SAE, first.Name)
	case peer.SAE != "" && peer.SAE == m.o.SAE:
		m.wrong(field, "SAE", "%q is our own SAE ID", peer.SAE)
	default:
		m.p.bySAE[peer.SAE] = peer
	}
}

func (m *policyMaker) peerDomains(field string, peer *Peer) (patterns []string) {
	for i, d := range peer.Domains {
		field := entry(field, i)
		pattern, ok := m.domain(field, d)
		if !ok {
			continue
		}
		if other, doubled := m.domains[pattern]; doubled {
			m.wrong(field, other, "%q is the domain of a peer already", d)
			continue
		}
		if other, own := m.own[pattern]; own {
			m.wrong(field, other, "%q is one of our own", d)
		}
		m.domains[pattern], m.p.byDomain[pattern] = field, peer
		patterns = append(patterns, pattern)
	}
	return patterns
}

// suites returns what is accepted from a peer: what is named, and nothing more.
func (m *policyMaker) suites(field string, peer *Peer) (suites []cipher.Suite) {
	if peer.Suites == nil {
		return slices.DeleteFunc(cipher.Suites(), func(s cipher.Suite) bool { return peer.Hybrid != nil && !s.Hybrid() })
	}
	if len(peer.Suites) == 0 {
		m.wrong(field, "", "empty: nothing could be accepted from the peer")
	}
	for i, name := range peer.Suites {
		suite, err := cipher.ParseSuite(string(name))
		if err != nil || suite == cipher.SuiteAuto {
			m.wrong(entry(field, i), "", "%q must be %s", readable.Short(string(name)), suiteNames)
		}
		suites = append(suites, suite)
	}
	return suites
}

// suiteNames are the suites of messages, for errors.
const suiteNames = "aes-256-gcm, otp, aes-256-gcm+x-wing or otp+x-wing"

// outgoing returns the suite that a message to a peer gets if a rule says suite. If the
// peer has an X-Wing key, no rule leads to a suite without X-Wing.
func (p *Peer) outgoing(suite cipher.Suite) cipher.Suite {
	if p.Hybrid != nil {
		for _, s := range cipher.Suites() {
			if s.Hybrid() && s.Plain() == suite {
				return s
			}
		}
	}
	return suite
}

func (m *policyMaker) rules() {
	first := map[string]string{}
	for i := range m.o.Rules {
		rule, at := &m.o.Rules[i], entry("Rules", i)
		pattern, err := address.Pattern(rule.Domain)
		other, doubled := first[pattern]
		switch {
		case rule.Domain == "":
			m.wrong(at+".Domain", "", "missing: a domain, or %q for all others", address.Default)
		case err != nil:
			m.wrong(at+".Domain", "", "%q %v", readable.Short(rule.Domain), err)
		case doubled:
			m.wrong(at+".Domain", other, "%q is in another rule", rule.Domain)
		default:
			first[pattern], m.p.places[pattern] = at+".Domain", rule.Place
		}
		route := m.route(at, rule)
		if route.Rule = pattern; pattern == address.Default {
			m.p.otherwise = route
		} else {
			m.p.routes[pattern] = route
		}
	}
	if _, ok := first[address.Default]; !ok && len(m.o.Rules) > 0 {
		m.wrong("Rules", "", "no rule for the domain %q says what happens to all other mail", address.Default)
	}
}

// route returns where the mail of a rule goes.
func (m *policyMaker) route(at string, rule *Rule) Route {
	i, known := m.names[rule.Peer]
	switch {
	case rule.Encrypt < Required || rule.Encrypt > Never:
		m.wrong(at+".Encrypt", "", "must be required, opportunistic or never")
	case rule.Encrypt == Never && rule.Peer != "":
		m.wrong(at+".Peer", "", "a rule that never encrypts has no peer")
	case rule.Encrypt != Never && rule.Peer == "":
		m.wrong(at+".Peer", "", "missing: encrypt = %q needs a peer", rule.Encrypt)
	case rule.Peer != "" && !known:
		m.wrong(at+".Peer", "", "there is no peer with the name %q", readable.Short(rule.Peer))
	}
	suite, err := cipher.ParseSuite(string(cmp.Or(rule.Suite, cipher.SuiteAuto)))
	switch {
	case err != nil:
		m.wrong(at+".Suite", "", "%q must be auto, %s", readable.Short(string(rule.Suite)), suiteNames)
	case rule.PadLimit != 0 && (suite != cipher.SuiteAuto || rule.Encrypt == Never):
		m.wrong(at+".PadLimit", "", `is for suite = "auto" only`)
	case rule.PadLimit < 0 || rule.PadLimit > cipher.MaxPadLimit:
		m.wrong(at+".PadLimit", "", "%s must be at most %s", readable.Size(int64(rule.PadLimit)), readable.Size(cipher.MaxPadLimit))
	}
	if rule.Encrypt == Never || !known {
		return Route{Mode: rule.Encrypt}
	}
	peer := m.p.peers[i]
	if suite.Hybrid() && peer.Hybrid == nil {
		m.wrong(at+".Suite", "", "%q needs the X-Wing key of peer %q", readable.Short(string(rule.Suite)), peer.Name)
	}
	r := Route{Mode: rule.Encrypt, Peer: peer, Suite: peer.outgoing(suite)}
	if suite == cipher.SuiteAuto {
		r.PadLimit = cmp.Or(rule.PadLimit, cipher.DefaultPadLimit)
	}
	return r
}
