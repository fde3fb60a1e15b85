package mailer

import (
	"errors"
	"net/netip"
	"strings"
	"unicode"

	"golang.org/x/net/idna"
)

// Patterns that are no domain: defaultDomain is that of the rule for all that no
// other rule is for, anyLiteral that for all address literals, as in
// user@[192.0.2.1].
const (
	defaultDomain = "default"
	anyLiteral    = "[*]"
)

// maxDomain is the longest domain, in octets, that a pattern can be for.
const maxDomain = 255

// A domainTable has values by domain, by "*.DOMAIN" for all beneath it, and by
// address literal.
type domainTable[V any] map[string]V

// find looks a normalised domain up, the longest pattern first.
func (t domainTable[V]) find(domain string) (value V, ok bool) {
	if domain == "" || len(domain) > maxDomain {
		return value, false
	}
	if value, ok = t[domain]; ok {
		return value, true
	}
	if domain[0] == '[' {
		value, ok = t[anyLiteral]
		return value, ok
	}
	for {
		var dot bool
		if _, domain, dot = strings.Cut(domain, "."); !dot {
			return value, false
		}
		if value, ok = t["*."+domain]; ok {
			return value, true
		}
	}
}

// domainOf returns the normalised domain of an address without its angle
// brackets: what follows the last @ that is not in quotes. It is "" where there
// is none.
func domainOf(address string) string {
	at, quoted := -1, false
	for i := 0; i < len(address); i++ {
		switch address[i] {
		case '"':
			quoted = !quoted
		case '\\':
			if quoted {
				i++
			}
		case '@':
			if !quoted {
				at = i
			}
		}
	}
	if quoted { // an open quote hides nothing
		at = strings.LastIndexByte(address, '@')
	}
	if at < 0 {
		return ""
	}
	return normalDomain(address[at+1:])
}

// normalDomain returns a domain in lower case, as A-labels, without a dot at
// the end, and an address literal in its one form. What is neither comes back in
// lower case.
func normalDomain(domain string) string {
	if literal, ok := normalLiteral(domain); ok {
		return literal
	}
	domain = strings.TrimRight(strings.ToLower(domain), ".")
	if len(domain) > 4*maxDomain { // of UTF-8
		return domain
	}
	if strings.ContainsFunc(domain, func(r rune) bool { return r > unicode.MaxASCII }) {
		if ascii, err := idnaProfile().ToASCII(domain); err == nil {
			domain = ascii
		}
	}
	return strings.TrimRight(strings.ToLower(domain), ".")
}

// normalLiteral returns an address literal (RFC 5321 §4.1.3) in the one form in
// which it is compared.
func normalLiteral(s string) (literal string, ok bool) {
	inner, opened := strings.CutPrefix(s, "[")
	inner, closed := strings.CutSuffix(inner, "]")
	if !opened || !closed {
		return "", false
	}
	const tag = "ipv6:"
	six := len(inner) >= len(tag) && strings.EqualFold(inner[:len(tag)], tag)
	if six {
		inner = inner[len(tag):]
	}
	addr, err := netip.ParseAddr(inner)
	if err != nil || addr.Zone() != "" || addr.Is4() == six {
		return "", false
	}
	if six {
		return "[IPv6:" + addr.String() + "]", true
	}
	return "[" + addr.String() + "]", true
}

// idnaProfile maps as UTS #46 does, width and case among others, and takes names
// that hosts should not have, as those with an underscore.
func idnaProfile() *idna.Profile {
	return idna.New(idna.MapForLookup(), idna.Transitional(false), idna.StrictDomainName(false))
}

// domainPattern normalises the domain of a rule or peer.
func domainPattern(s string) (string, error) {
	if s == defaultDomain || s == anyLiteral {
		return s, nil
	}
	if literal, ok := normalLiteral(s); ok {
		return literal, nil
	}
	name, wildcard := strings.CutPrefix(s, "*.")
	domain, err := idnaProfile().ToASCII(name)
	domain = strings.TrimSuffix(strings.ToLower(domain), ".")
	_, ipErr := netip.ParseAddr(domain)
	if err != nil || ipErr == nil || !isDomain(domain) {
		return "", errors.New(`must be a domain as "b.example", "*.b.example" for those beneath it, or an address literal as "[192.0.2.1]", with "[*]" for all`)
	}
	if wildcard {
		domain = "*." + domain
	}
	return domain, nil
}

// isDomain accepts labels of letters, digits, hyphens and underscores.
func isDomain(s string) bool {
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || !isHostname(label) {
			return false
		}
	}
	return len(s) <= maxDomain-len("*.")
}
