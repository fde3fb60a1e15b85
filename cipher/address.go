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

// Limits of an address, in bytes.
const (
	maxAddress     = 320 // RFC 5321 §4.5.3.1: 64 of local part, "@", 255 of domain
	maxDisplayName = 500
)

// formatAddresses returns an address list in its plainest form, without groups. Names,
// or the comments that stand for them, are quoted or in encoded words. It returns "" if
// there is no address in text.
func formatAddresses(text string, opts *EncryptOptions) string {
	list, _ := parseAddresses(text)
	return strings.Join(formatList(list, opts), ", ")
}

// formatRecipients is formatAddresses for a field that may consist of empty
// groups.
func formatRecipients(text string, opts *EncryptOptions) string {
	list, emptyGroups := parseAddresses(text)
	if emptyGroups {
		return "undisclosed-recipients:;"
	}
	return strings.Join(formatList(list, opts), ", ")
}

// formatAddress is formatAddresses for a field with one address. It returns the
// first.
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

// formatMailbox returns an address, in angle brackets only if it has a name.
func formatMailbox(a *mail.Address) string {
	text := a.String()
	if a.Name == "" {
		return text[1 : len(text)-1]
	}
	if strings.HasPrefix(text, "=?") && strings.Contains(a.Name, `\`) {
		// String leaves a backslash in an encoded word, which RFC 2047 §5 forbids.
		return mime.BEncoding.Encode("utf-8", a.Name) + " " + (&mail.Address{Address: a.Address}).String()
	}
	return text
}

// usableAddress reports whether an address may go in a header: it has a sensible
// length, is in US-ASCII unless UTF-8 is allowed, and has nothing that a mail program
// may take for a blank or an encoded word.
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

// phraseName returns the name in a phrase (RFC 5322 §3.2.5, and §4.1 for dots),
// or "" if it is not a phrase.
func phraseName(phrase string) string {
	var words []string
	for s := skipCFWS(phrase); s != ""; s = skipCFWS(s) {
		text, n := rawheader.QuotedString(s)
		if n > 0 {
			words = append(words, text)
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

// commentName returns the comment at the start of s, where old programs put the
// name.
func commentName(s string) string {
	s = strings.TrimLeft(s, " \t")
	text, n := rawheader.Comment(s)
	if n <= 0 {
		return ""
	}
	return displayName(text)
}

// displayName returns a name in UTF-8 without control characters, or "" if it is too
// long, can't be decoded, or can be read in two ways.
func displayName(name string) string {
	name = toUTF8(name)
	// Encoded words in quoted strings count too: RFC 2047 §5 forbids them, but
	// programs decode them.
	name, err := (&mime.WordDecoder{CharsetReader: charset.Reader}).DecodeHeader(name)
	name = strings.Join(strings.FieldsFunc(strings.ToValidUTF8(name, "\uFFFD"), isBlankOrControl), " ")
	if err != nil || len(name) > maxDisplayName || mayBeEncoded(name) || strings.Contains(name, "?=") {
		return ""
	}
	return name
}

func isBlankOrControl(r rune) bool { return r <= ' ' || r >= 0x7F && r <= 0xA0 }
