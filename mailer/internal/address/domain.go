// Package address reads the domains of mail addresses, and compares them as a
// policy does: as A-labels in lower case, address literals by value.
package address

import (
	"errors"
	"net/netip"
	"strings"
	"unicode"

	"golang.org/x/net/idna"
)

// Patterns that are not domains: Default matches all mail that no other pattern matches,
// AnyLiteral all address literals, as in user@[192.0.2.1].
const (
	Default    = "default"
	AnyLiteral = "[*]"
)

// MaxDomain is the length of the longest domain that a pattern can match, in bytes.
const MaxDomain = 255

// A Table has values by pattern: a domain, "*.DOMAIN" for all domains beneath it, or an
// address literal.
type Table[V any] map[string]V

// Find looks up a normalised domain, the longest pattern first.
func (t Table[V]) Find(domain string) (value V, ok bool) {
	if domain == "" || len(domain) > MaxDomain {
		return value, false
	}
	if value, ok = t[domain]; ok {
		return value, true
	}
	if domain[0] == '[' {
		value, ok = t[AnyLiteral]
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

// Domain returns the normalised domain of an address without its angle brackets:
// what follows the last @ that is not in quotes. It is "" where there is none.
func Domain(address string) string {
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
	return Normal(address[at+1:])
}

// Normal returns a domain in lower case, as A-labels, without a final dot, and an address
// literal in its canonical form. Anything else comes back in lower case.
func Normal(domain string) string {
	if literal, ok := normalLiteral(domain); ok {
		return literal
	}
	domain = strings.TrimRight(strings.ToLower(domain), ".")
	if len(domain) > 4*MaxDomain { // of UTF-8
		return domain
	}
	if strings.ContainsFunc(domain, func(r rune) bool { return r > unicode.MaxASCII }) {
		if ascii, err := idnaProfile().ToASCII(domain); err == nil {
			domain = ascii
		}
	}
	return strings.TrimRight(strings.ToLower(domain), ".")
}

// normalLiteral returns an address literal (RFC 5321 §4.1.3) in the canonical form used
// for comparison.
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

// idnaProfile maps width, case and more, as UTS #46 does, and takes names that hosts
// should not have, such as those with an underscore.
func idnaProfile() *idna.Profile {
	return idna.New(idna.MapForLookup(), idna.Transitional(false), idna.StrictDomainName(false))
}

// Pattern normalises the pattern of a rule or peer.
func Pattern(s string) (string, error) {
	if s == Default || s == AnyLiteral {
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
		return "", errors.New(`must be a domain like "b.example", "*.b.example" for those beneath it, or an address literal like "[192.0.2.1]", with "[*]" for all`)
	}
	if wildcard {
		domain = "*." + domain
	}
	return domain, nil
}

// isDomain accepts labels of letters, digits, hyphens and underscores.
func isDomain(s string) bool {
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || !IsHost(label) {
			return false
		}
	}
	return len(s) <= MaxDomain-len("*.")
}

// IsHost accepts host names and IP addresses.
func IsHost(s string) bool {
	if _, err := netip.ParseAddr(s); err == nil {
		return true
	}
	return s != "" && len(s) <= 255 && s[0] != '-' && s[0] != '.' && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') && r != '.' && r != '-' && r != '_'
	})
}

// IsMailDomain accepts what may follow the @ in an envelope: address literals and domain
// names, even names that hosts should not have. A name that IDNA refuses is not a domain:
// no rule knows whose it is, and a program after the relay may take it for another one.
func IsMailDomain(s string) bool {
	if strings.ContainsFunc(s, func(r rune) bool { return r > unicode.MaxASCII }) {
		if _, err := idnaProfile().ToASCII(s); err != nil {
			return false
		}
	}
	more := ""
	if strings.HasPrefix(s, "[") && strings.HasSuffix(s, "]") {
		s, more = s[1:len(s)-1], ":"
	}
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') && r < 0x80 && !strings.ContainsRune("-._"+more, r)
	})
}
