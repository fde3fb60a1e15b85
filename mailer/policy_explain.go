package mailer

import (
	"fmt"
	"io"
	"strings"

	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/mailer/internal/address"
	"github.com/qkdmail/qkdmail/mailer/internal/readable"
)

// Explain writes a few lines for people on what the policy says about an address, as a
// recipient and as a sender. The error is an [ErrAddress] if addr is not an address;
// other errors are w's.
func (p *Policy) Explain(w io.Writer, addr string) error {
	if err := CheckAddress(addr); err != nil {
		return err
	}
	var b strings.Builder
	line := func(what, format string, args ...any) {
		fmt.Fprintf(&b, "  %-9s %s\n", what, readable.Line(fmt.Sprintf(format, args...)))
	}
	domain := address.Domain(addr)
	fmt.Fprintf(&b, "%s\n", readable.Line(addr))
	if domain != "" {
		line("domain", "%s", domain)
	}
	r := p.Outbound(addr)
	line("rule", "%s", p.ruleText(r.Rule))
	if r.Trigger != "" {
		line("trigger", "%s", r.Trigger)
	}
	if isPostmaster(addr) && r.Rule != "" && r.Trigger == "" {
		line("mail to", "has no domain, so the default rule counts, encrypt = %q; it is for the postmaster of whoever gets it (RFC 5321 §4.5.1)", r.Mode)
	} else {
		line("mail to", "%s", r.text())
	}
	if r.Peer != nil {
		line("suite", "%s", r.SuiteText())
	}
	if !isPostmaster(addr) { // which is no sender
		line("mail from", "%s", p.inboundText(domain))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// ruleText names a rule and its place.
func (p *Policy) ruleText(pattern string) string {
	if pattern == "" {
		return "none"
	}
	if place := p.places[pattern]; place != "" {
		return fmt.Sprintf("%s (%s)", pattern, place)
	}
	return pattern
}

func (r Route) text() string {
	switch {
	case r.Mode == Never:
		return "leaves as it is, not encrypted"
	case r.unencryptable():
		return "is refused: a trigger wants it encrypted, and the rule has no peer"
	case r.Peer == nil:
		return "can't leave: no rule says how"
	case r.Mode == Opportunistic:
		return "is encrypted for " + r.Peer.text() + ", or leaves in clear where the key manager has no key"
	}
	return "is encrypted for " + r.Peer.text() + ", or waits until it can be"
}

// SuiteText says, for people, under which suites mail leaves, with X-Wing if the peer has
// a key. It is "" if no mail is encrypted.
func (r Route) SuiteText() string {
	if r.Suite == cipher.SuiteAuto {
		return fmt.Sprintf("%s for messages of up to %s, %s above",
			r.Peer.outgoing(cipher.SuiteOTP), readable.Size(int64(r.PadLimit)), r.Peer.outgoing(cipher.SuiteAES256GCM))
	}
	return string(r.Suite)
}

func (p *Peer) text() string {
	if p.SAE == "" {
		return fmt.Sprintf("peer %q", p.Name)
	}
	return fmt.Sprintf("peer %q, SAE %s", p.Name, p.SAE)
}

func (p *Policy) inboundText(domain string) string {
	peer, ok := p.byDomain.Find(domain)
	switch {
	case !ok:
		return "passes where it is not encrypted; no peer has this domain"
	case peer.AllowPlain:
		return "comes encrypted from " + peer.text() + ", or passes in clear"
	case p.plainReports:
		return "must come encrypted from " + peer.text() + ", except for reports"
	}
	return "must come encrypted from " + peer.text()
}
