package mailer

import (
	"fmt"
	"slices"
	"strings"

	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/mailer/internal/address"
	"github.com/qkdmail/qkdmail/mailer/internal/readable"
)

// A Mode says whether mail is encrypted. The zero value is Required.
type Mode int

const (
	// Required: encrypted, or not sent at all.
	Required Mode = iota
	// Opportunistic: encrypted, or in clear if the key manager answers that it has no
	// key. A key manager that can't be reached delays the mail.
	Opportunistic
	// Never: as it is.
	Never
)

func modeNames() []string { return []string{"required", "opportunistic", "never"} }

// String returns the mode in one word, in lower case.
func (m Mode) String() string {
	names := modeNames()
	if m < 0 || int(m) >= len(names) {
		return fmt.Sprintf("invalid(%d)", int(m))
	}
	return names[m]
}

// UnmarshalText reads a mode as String writes it.
func (m *Mode) UnmarshalText(text []byte) error {
	i := slices.Index(modeNames(), string(text))
	if i < 0 {
		return fmt.Errorf("%q must be %s", readable.Short(string(text)), strings.Join(modeNames(), " or "))
	}
	*m = Mode(i)
	return nil
}

// A Peer is a site that mail is exchanged with.
type Peer struct {
	Name string
	SAE  string // its SAE ID; "": none, for at most one peer
	// Domains are those of the peer's users: "b.example", or "*.b.example" for
	// all domains beneath it. They say who may send as whom.
	Domains    []string
	AllowPlain bool // mail from its domains may arrive in clear
	// Suites are those accepted from the peer. In PolicyOptions, nil means all, but only
	// hybrid ones if there is a Hybrid key; a Policy lists them.
	Suites []cipher.Suite
	// Hybrid is the peer's X-Wing key; nil: none. With it, everything encrypted for the
	// peer is under a hybrid suite.
	Hybrid *cipher.HybridPublicKey
	// AnyRecipient lets messages from the peer go to recipients that they are not sealed
	// for, as when aliases are expanded before decryption, and have any envelope sender.
	AnyRecipient bool
}

// Accepts reports whether messages from the peer may be under this suite.
func (p *Peer) Accepts(s cipher.Suite) bool { return slices.Contains(p.Suites, s) }

// A Rule says how mail to a domain leaves.
type Rule struct {
	// Domain is "b.example", "*.b.example" for the domains beneath it at any
	// depth, "[192.0.2.1]" for an address literal, "[*]" for all of those, or
	// "default" for all other mail.
	Domain   string
	Peer     string       // its name; "" with Never
	Encrypt  Mode         // whether it is encrypted
	Suite    cipher.Suite // "": SuiteAuto
	PadLimit int          // largest message, in bytes, that SuiteAuto encrypts with OTP; 0: cipher.DefaultPadLimit
	Place    string       // where the rule is written, for Explain; ""
}

// A Route says how mail to one recipient leaves.
type Route struct {
	Peer     *Peer // nil with Never, and if no rule applies
	Mode     Mode
	Suite    cipher.Suite // "" with Never; a hybrid one, or SuiteAuto, to a peer with a Hybrid key
	PadLimit int          // largest message, in bytes, that SuiteAuto encrypts with OTP; 0 with other suites
	Rule     string       // the domain of the rule that decided, for logs; "": there was none
	Trigger  string       // the names of the triggers that the message has pulled, separated by commas; "": none
}

// SameGroup reports whether two recipients can share one outgoing message.
func (r Route) SameGroup(o Route) bool {
	r.Rule, o.Rule, r.Trigger, o.Trigger = "", "", "", ""
	return r == o
}

// A Policy says which outgoing mail is encrypted and for whom, and which incoming mail
// must be encrypted. It does not change, and several goroutines can use it at the same
// time.
//
// Domains are compared as A-labels in lower case, so both spellings of an
// internationalised domain are the same; a final dot makes no difference. The exact
// domain wins over a wildcard, and a longer wildcard over a shorter one. "*.b.example"
// does not match b.example itself. Address literals are compared by value.
type Policy struct {
	sae          string // our own
	peers        []*Peer
	bySAE        map[string]*Peer
	byDomain     address.Table[*Peer]
	own          address.Table[struct{}] // this site's domains
	routes       address.Table[Route]
	otherwise    Route             // of the default rule
	places       map[string]string // of rules, by their domain
	plainReports bool
	triggers     []trigger
	raise        raise // what they want for the message that this policy is for
}

// SAE returns this site's SAE ID, "" for none.
func (p *Policy) SAE() string { return p.sae }

// Outbound says how mail to a recipient leaves, by the domain of the address. An address
// without a domain, or with an address literal that no rule names, takes the default
// rule. Without rules, mail is Required to be encrypted but has no peer to be encrypted
// for: it can't leave. Triggers count only in a policy that [Policy.Raised] has returned.
func (p *Policy) Outbound(recipient string) Route {
	if r, ok := p.routes.Find(address.Domain(recipient)); ok {
		return p.raise.of(r)
	}
	return p.raise.of(p.otherwise)
}

// Peers returns all peers, in the order given. Their domains are normalised.
func (p *Policy) Peers() []*Peer { return slices.Clone(p.peers) }

// PeerBySAE returns the peer with this SAE ID; "" means the peer that has none.
func (p *Policy) PeerBySAE(sae string) (*Peer, bool) {
	peer, ok := p.bySAE[sae]
	return peer, ok
}

// PeerOfDomain returns the peer whose users have this domain.
func (p *Policy) PeerOfDomain(domain string) (*Peer, bool) {
	return p.byDomain.Find(address.Normal(domain))
}

// InboundRequired reports whether mail from a domain must arrive encrypted.
func (p *Policy) InboundRequired(domain string) bool {
	peer, ok := p.PeerOfDomain(domain)
	return ok && !peer.AllowPlain
}

// anyInboundRequired reports whether mail from some domain must arrive encrypted.
func (p *Policy) anyInboundRequired() bool {
	return slices.ContainsFunc(p.peers, func(peer *Peer) bool { return !peer.AllowPlain && len(peer.Domains) > 0 })
}

// OwnDomain reports whether a domain is one of this site's.
func (p *Policy) OwnDomain(domain string) bool {
	_, own := p.own.Find(address.Normal(domain))
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
