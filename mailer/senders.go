package mailer

import (
	"mime"
	"net/mail"
	"strings"
	"unicode"

	"github.com/emersion/go-message/charset"
)

// senders returns the addresses that the From fields of a message could be
// read as, of which there should be one. They decide whether mail has to be
// encrypted and whose it may be, so it is not enough to read what is correct:
// what any mail program may show as the sender counts. Only the domains of what
// is returned count; some come without a local part.
func (h *head) senders() []string {
	var addresses []string
	for _, f := range h.fields {
		if f.Is("From") {
			addresses = append(addresses, addressesIn(f.Text())...)
		}
	}
	return addresses
}

// addressesIn returns an address for each domain that may be one in a field:
// in its addresses as they parse, and behind each "@", also without comments
// and blanks, and in encoded words.
func addressesIn(text string) []string {
	var addresses []string
	if list, err := mail.ParseAddressList(text); err == nil {
		for _, a := range list {
			addresses = append(addresses, a.Address)
		}
	}
	readings := []string{text}
	if decoded, err := (&mime.WordDecoder{CharsetReader: charset.Reader}).DecodeHeader(text); err == nil && decoded != text {
		readings = append(readings, decoded)
	}
	for _, reading := range readings {
		addresses = append(addresses, atDomains(reading)...)
		addresses = append(addresses, atDomains(withoutComments(reading))...)
	}
	return addresses
}

// atDomains returns "@" and the domain behind each "@" of a text, blanks around
// its dots left out (RFC 5322 §4.4).
func atDomains(text string) []string {
	var found []string
	for {
		_, rest, ok := strings.Cut(text, "@")
		if !ok {
			return found
		}
		if d := leadingDomain(rest); d != "" {
			found = append(found, "@"+d)
		}
		text = rest
	}
}

// leadingDomain returns the longest domain that a text begins with.
func leadingDomain(text string) string {
	var b strings.Builder
	dot, blank := true, false // a blank may stand before and behind a dot
	for _, r := range text {
		switch {
		case r == '.' || strings.ContainsRune("\u3002\uff0e\uff61", r): // IDNA takes these for dots
			dot = true
		case unicode.IsSpace(r):
			blank = true
			continue
		case r == '-' || r == '_' || r != unicode.ReplacementChar && (unicode.IsLetter(r) || unicode.IsDigit(r) || unicode.IsMark(r)):
			if blank && !dot {
				return b.String()
			}
			dot = false
		default:
			return b.String()
		}
		blank = false
		b.WriteRune(r)
	}
	return b.String()
}

// withoutComments leaves out what is in parentheses, which nest. One that is
// not closed is left in: programs differ on where it ends.
func withoutComments(text string) string {
	var b strings.Builder
	depth, open := 0, 0
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\\' && depth > 0:
			i++ // a quoted-pair
		case c == '(':
			if depth == 0 {
				open = i
			}
			depth++
		case c == ')' && depth > 0:
			depth--
		case depth == 0:
			b.WriteByte(c)
		}
	}
	if depth > 0 {
		b.WriteString(text[open:])
	}
	return b.String()
}
