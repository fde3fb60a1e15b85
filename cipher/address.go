package cipher

import (
	"mime"
	"net/mail"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/emersion/go-message/charset"
	"github.com/qkdmail/qkdmail/cipher/rawheader"
)

// Bounds of an address, in bytes.
const (
	maxAddress     = 320 // RFC 5321 §4.5.3.1: 64 of local part, "@", 255 of domain
	maxDisplayName = 500
)

// formatAddresses returns a list of addresses in its plainest form: groups
// dissolved, names (or a comment in the place of one) quoted or in encoded
// words. It is "" where no address is in it.
func formatAddresses(text string, opts *EncryptOptions) string {
	list, _ := parseAddresses(text)
	return strings.Join(formatList(list, opts), ", ")
}

// formatRecipients is formatAddresses for a field that may have nothing but
// empty groups.
func formatRecipients(text string, opts *EncryptOptions) string {
	list, emptyGroups := parseAddresses(text)
	if emptyGroups {
		return "undisclosed-recipients:;"
	}
	return strings.Join(formatList(list, opts), ", ")
}

// formatAddress is formatAddresses for a field with one address: the first.
func formatAddress(text string, opts *EncryptOptions) string {
	list, _ := parseAddresses(text)
	if out := formatList(list, opts); len(out) > 0 {
		return out[0]
	}
	return ""
}

func formatList(list []*mail.Address, opts *EncryptOptions) (out []string) {
	for _, a := range list {
		if !usableAddress(a.Address, opts.UTF8) {
			continue
		}
		if opts.Headers == HeadersShy {
			a.Name = ""
		}
		out = append(out, formatMailbox(a))
	}
	return out
}

// formatMailbox returns an address without angle brackets where it has no name.
func formatMailbox(a *mail.Address) string {
	text := a.String()
	if a.Name == "" {
		return text[1 : len(text)-1]
	}
	if strings.HasPrefix(text, "=?") && strings.Contains(a.Name, `\`) {
		// String lets a backslash stand in an encoded word; RFC 2047 §5 does not.
		return mime.BEncoding.Encode("utf-8", a.Name) + " " + (&mail.Address{Address: a.Address}).String()
	}
	return text
}

// usableAddress reports whether an address can stand in a header: of a
// sensible length, in US-ASCII unless UTF-8 is allowed, and without anything
// that a mail program may take for a blank or for an encoded word.
func usableAddress(address string, allowUTF8 bool) bool {
	if len(address) > maxAddress || !utf8.ValidString(address) || mayBeEncoded(address) {
		return false
	}
	for _, r := range address {
		if !unicode.IsPrint(r) || r > 0x7F && !allowUTF8 {
			return false
		}
	}
	return true
}

// phraseName returns the name that a phrase makes (RFC 5322 §3.2.5, and dots,
// §4.1), "" for what is no phrase.
func phraseName(phrase string) string {
	var words []string
	for s := skipCFWS(phrase); s != ""; s = skipCFWS(s) {
		n := rawheader.QuotedLen(s)
		if n > 0 {
			words = append(words, rawheader.Unquote(s[:n]))
		} else {
			for n = atomLen(s); n < len(s) && s[n] == '.'; {
				n += 1 + atomLen(s[n+1:])
			}
			words = append(words, s[:n])
		}
		if n <= 0 {
			return ""
		}
		s = s[n:]
	}
	return displayName(strings.Join(words, " "))
}

// commentName returns the first comment in s, where there is one: before
// there were phrases names stood there.
func commentName(s string) string {
	s = strings.TrimLeft(s, " \t")
	n := rawheader.CommentLen(s)
	if n <= 0 {
		return ""
	}
	return displayName(rawheader.Unquote(s[:n]))
}

// displayName returns a name in UTF-8 without control characters, "" for one
// that is too long, that can't be decoded, or that a mail program might read in
// two ways.
func displayName(name string) string {
	name = toUTF8(name)
	// Encoded words also count in quoted strings: RFC 2047 §5 forbids them there,
	// and programs decode them all the same.
	name, err := (&mime.WordDecoder{CharsetReader: charset.Reader}).DecodeHeader(name)
	name = strings.Join(strings.FieldsFunc(strings.ToValidUTF8(name, "\uFFFD"), isBlankOrControl), " ")
	if err != nil || len(name) > maxDisplayName || mayBeEncoded(name) || strings.Contains(name, "?=") {
		return ""
	}
	return name
}

func isBlankOrControl(r rune) bool { return r <= ' ' || r >= 0x7F && r <= 0xA0 }
