package cipher

import (
	"crypto/rand"
	"encoding/hex"
	"strings"
)

// formatID returns text if it is exactly one message ID of RFC 5322 §3.6.4,
// without its obsolete forms, and "" otherwise.
func formatID(text string) string {
	inner, ok := strings.CutPrefix(text, "<")
	inner, closed := strings.CutSuffix(inner, ">")
	left, right, _ := strings.Cut(inner, "@")
	if !ok || !closed || !isDotAtom(left) || !isDotAtom(right) && !isDomainLiteral(right) || !fitsLine(text) {
		return ""
	}
	return text
}

// isDotAtom reports whether s is a dot-atom-text (RFC 5322 §3.2.3).
func isDotAtom(s string) bool {
	for atom := range strings.SplitSeq(s, ".") {
		if atom == "" || strings.ContainsFunc(atom, func(r rune) bool {
			return r <= ' ' || r > '~' || strings.ContainsRune(`()<>[]:;@\,"`, r)
		}) {
			return false
		}
	}
	return true
}

// isDomainLiteral reports whether s is a no-fold-literal (RFC 5322 §3.6.4).
func isDomainLiteral(s string) bool {
	return len(s) > 2 && s[0] == '[' && s[len(s)-1] == ']' &&
		!strings.ContainsFunc(s[1:len(s)-1], func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`[]\`, r) })
}

// maxIDs is the largest size of all message IDs of a copied field, in bytes.
const maxIDs = 8 << 10

// formatIDs returns the message IDs in text and nothing else: phrases beside them often
// quote the date or subject of another message. If there are too many, it keeps the
// first and the last ones, which threading needs most (RFC 5322 §3.6.4).
func formatIDs(text string) string {
	var ids []string
	for text != "" {
		var id string
		var ok bool
		_, text, _ = strings.Cut(text, "<")
		if id, text, ok = strings.Cut(text, ">"); ok && isLooseID(id) && fitsLine("<"+id+">") {
			ids = append(ids, "<"+id+">")
		}
	}
	cut := 1
	for size := len(strings.Join(ids, " ")); size > maxIDs && cut < len(ids); cut++ {
		size -= len(ids[cut]) + 1
	}
	if cut > 1 {
		ids = append(ids[:1], ids[cut:]...)
	}
	return strings.Join(ids, " ")
}

// isLooseID reports whether s is a message ID without its angle brackets, in
// whatever form: threading needs the IDs of others exactly as they are.
func isLooseID(s string) bool {
	return len(s) <= 900 && strings.Contains(s, "@") &&
		!strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' || r == '<' })
}

// newMessageID makes a message ID in the domain of the last address in from, a
// formatted address list.
func newMessageID(from string) string {
	domain := strings.TrimSuffix(from[strings.LastIndexByte(from, '@')+1:], ">")
	if formatID("<x@"+domain+">") == "" {
		domain = "qkdmail.invalid"
	}
	var random [16]byte
	_, _ = rand.Read(random[:]) // never fails
	return "<" + hex.EncodeToString(random[:]) + "@" + domain + ">"
}
