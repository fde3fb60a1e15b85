package mailer

import (
	"fmt"
	"slices"
	"strings"

	"github.com/qkdmail/qkdmail/cipher"
)

// A Mode says whether mail is encrypted. The zero value is Required.
type Mode int

const (
	// Required: encrypted or not sent at all.
	Required Mode = iota
	// Opportunistic: encrypted, or in clear where the key manager answers
	// that it has no key. One that can't be reached delays the mail.
	Opportunistic
	// Never: as it is.
	Never
)

// String returns the mode as a configuration has it.
func (m Mode) String() string { return nameOf(modeNames(), int(m)) }

// UnmarshalText reads a mode as String writes it.
func (m *Mode) UnmarshalText(text []byte) (err error) {
	*m, err = valueOf[Mode](modeNames(), string(text))
	return err
}

func modeNames() []string { return []string{"required", "opportunistic", "never"} }

// Inbound says what happens to plain mail from a peer's domain. The zero value
// is InboundRequired.
type Inbound int

const (
	InboundRequired Inbound = iota // refused
	InboundOptional                // passed on
)

// String returns the value as a configuration has it.
func (i Inbound) String() string { return nameOf(inboundNames(), int(i)) }

// UnmarshalText reads a value as String writes it.
func (i *Inbound) UnmarshalText(text []byte) (err error) {
	*i, err = valueOf[Inbound](inboundNames(), string(text))
	return err
}

func inboundNames() []string { return []string{"required", "optional"} }

func nameOf(names []string, i int) string {
	if i < 0 || i >= len(names) {
		return fmt.Sprintf("invalid(%d)", i)
	}
	return names[i]
}

func valueOf[T ~int](names []string, name string) (T, error) {
	i := slices.Index(names, name)
	if i < 0 {
		return 0, &badText{fmt.Sprintf("%q must be %s", abridged(name), strings.Join(names, " or "))}
	}
	return T(i), nil
}

// A Peer is a site that mail is exchanged with.
type Peer struct {
	Name    string
	SAE     string   // its SAE ID; "": none
	Domains []string // of its users, in lower case, as A-labels; "*." before those that stand for all beneath
	Inbound Inbound
	Suites  []cipher.Suite // accepted from it
}

// Accepts reports whether messages from the peer may be under this suite.
func (p *Peer) Accepts(s cipher.Suite) bool { return slices.Contains(p.Suites, s) }

// A Route says how mail to one recipient leaves.
type Route struct {
	Peer     *Peer // nil with Never, and where no rule says anything
	Mode     Mode
	Suite    cipher.Suite // "" with Never
	PadLimit int          // octets of message up to which SuiteAuto takes OTP; 0 with other suites
	Rule     string       // the domain of the rule that decided, for logs; "": there was none
}

// SameGroup reports whether two recipients can share one outgoing message.
func (r Route) SameGroup(o Route) bool {
	r.Rule, o.Rule = "", ""
	return r == o
}

// A Policy says which mail is encrypted for whom, and which must have been. It
// does not change and can be used by several goroutines at the same time.
//
// Domains are compared as A-labels in lower case, so an internationalised one
// is the same in both of its spellings; a dot at the end makes no difference.
// The exact domain comes before a wildcard, a longer wildcard before a shorter,
// and "*.b.example" is not for b.example itself. Address literals are compared by
// value; "[*]" is for all that no pattern names.
type Policy struct {
	config     *Config // for Explain: its file and lines
	peers      []*Peer
	bySAE      map[string]*Peer
	byDomain   domainTable[*Peer]
	own        domainTable[struct{}] // this site's domains
	routes     domainTable[Route]
	otherwise  Route // of the default rule
	nullSender bool
}

// NewPolicy makes a policy of the site's domains, the peers, the rules and the
// null-sender rule of a configuration. Only these are checked; see [Config.Check]. The
// configuration must not be changed afterwards.
func NewPolicy(c *Config) (*Policy, error) {
	f := &findings{c: c}
	f.policy()
	if err := f.err(); err != nil {
		return nil, err
	}
	p := &Policy{
		config: c, bySAE: map[string]*Peer{}, byDomain: domainTable[*Peer]{}, own: domainTable[struct{}]{}, routes: domainTable[Route]{},
		nullSender: c.NullSender.Inbound != NullSenderAccept,
	}
	for _, d := range c.Site.Domains {
		pattern, _ := domainPattern(d)
		p.own[pattern] = struct{}{}
	}
	names := map[string]*Peer{}
	for i := range c.Peers {
		peer := newPeer(&c.Peers[i])
		p.peers = append(p.peers, peer)
		p.bySAE[peer.SAE], names[peer.Name] = peer, peer
		for _, d := range peer.Domains {
			p.byDomain[d] = peer
		}
	}
	for i := range c.Rules {
		rule := &c.Rules[i]
		pattern, _ := domainPattern(rule.Domain)
		route := newRoute(rule, pattern, names[rule.Peer])
		if pattern == defaultDomain {
			p.otherwise = route
		} else {
			p.routes[pattern] = route
		}
	}
	return p, nil
}

func newPeer(c *PeerConfig) *Peer {
	peer := &Peer{Name: c.Name, SAE: c.SAEID(), Inbound: c.Inbound}
	for _, d := range c.Domains {
		pattern, _ := domainPattern(d)
		peer.Domains = append(peer.Domains, pattern)
	}
	for _, name := range c.Suites {
		suite, _ := cipher.ParseSuite(name)
		peer.Suites = append(peer.Suites, suite)
	}
	if c.Suites == nil {
		peer.Suites = []cipher.Suite{cipher.SuiteAES256GCM, cipher.SuiteOTP}
	}
	return peer
}

func newRoute(c *RuleConfig, pattern string, peer *Peer) Route {
	r := Route{Mode: c.Encrypt, Rule: pattern}
	if c.Encrypt == Never {
		return r
	}
	r.Peer = peer
	r.Suite, _ = cipher.ParseSuite(suiteOrAuto(c.Suite))
	if r.Suite == cipher.SuiteAuto {
		r.PadLimit = cipher.DefaultPadLimit
		if c.PadLimit != 0 {
			r.PadLimit = c.PadLimit
		}
	}
	return r
}

// Outbound says how mail to a recipient leaves, by the domain of its address. One
// without a domain, and one with an address literal that no rule names, takes the
// default rule. In
// a policy without rules mail is Required to be encrypted, for nobody: it can't
// leave.
func (p *Policy) Outbound(recipient string) Route {
	if r, ok := p.routes.find(domainOf(recipient)); ok {
		return r
	}
	return p.otherwise
}

// Peers returns all peers, in the order of the configuration.
func (p *Policy) Peers() []*Peer { return slices.Clone(p.peers) }

// PeerBySAE returns the peer with this SAE ID; "" is that of the peer without.
func (p *Policy) PeerBySAE(sae string) (*Peer, bool) {
	peer, ok := p.bySAE[sae]
	return peer, ok
}

// PeerOfDomain returns the peer whose users have this domain.
func (p *Policy) PeerOfDomain(domain string) (*Peer, bool) {
	return p.byDomain.find(normalDomain(domain))
}

// InboundRequired reports whether mail from a domain must arrive encrypted.
func (p *Policy) InboundRequired(domain string) bool {
	peer, ok := p.PeerOfDomain(domain)
	return ok && peer.Inbound == InboundRequired
}

// AnyInboundRequired reports whether mail from some domain must arrive encrypted.
func (p *Policy) AnyInboundRequired() bool {
	return slices.ContainsFunc(p.peers, func(peer *Peer) bool { return peer.Inbound == InboundRequired && len(peer.Domains) > 0 })
}

// OwnDomain reports whether a domain is one of this site's.
func (p *Policy) OwnDomain(domain string) bool {
	_, own := p.own.find(normalDomain(domain))
	return own
}

// mayWriteAs reports whether a peer may send mail in the name of a domain: not if
// it is known to be another's, or our own.
func (p *Policy) mayWriteAs(peer *Peer, domain string) bool {
	owner, known := p.PeerOfDomain(domain)
	return (!known || owner == peer) && !p.OwnDomain(domain)
}

// knowsOthers reports whether there is a domain that a peer may not write as.
func (p *Policy) knowsOthers(peer *Peer) bool {
	return len(p.own) > 0 || slices.ContainsFunc(p.peers, func(o *Peer) bool { return o != peer && len(o.Domains) > 0 })
}

// NullSenderRequired reports whether plain mail with the null sender is judged
// as other plain mail is, by InboundRequired and the header's From. Otherwise it
// passes.
func (p *Policy) NullSenderRequired() bool { return p.nullSender }
