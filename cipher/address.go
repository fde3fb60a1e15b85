package cipher

import (
	"mime"
	"net/mail"
	"regexp"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/emersion/go-message/charset"
)

// Bounds of an address, in octets.
const (
	maxAddress     = 320 // RFC 5321 §4.5.3.1: 64 of local part, "@", 255 of domain
	maxDisplayName = 500
)

// formatAddresses returns a list of addresses in its plainest form: groups
// dissolved, names (or a comment in the place of one) quoted or in encoded
// words. It is "" where no address is in it.
func formatAddresses(text string, opts *EncryptOptions) string {
	return strings.Join(formatList(parseAddresses(text), opts), ", ")
}

// formatAddress is formatAddresses for a field with one address: the first.
func formatAddress(text string, opts *EncryptOptions) string {
	if out := formatList(parseAddresses(text), opts); len(out) > 0 {
		return out[0]
	}
	return ""
}

func parseAddresses(text string) []*mail.Address {
	parser := mail.AddressParser{WordDecoder: &mime.WordDecoder{CharsetReader: charset.Reader}}
	list, err := parser.ParseList(text)
	if err != nil {
		return findAddresses(text)
	}
	return list
}

// isEmptyGroup reports whether text is a group without members.
func isEmptyGroup(text string) bool {
	list, err := mail.ParseAddressList(text)
	return err == nil && len(list) == 0
}

func formatList(list []*mail.Address, opts *EncryptOptions) (out []string) {
	for _, a := range list {
		if !usableAddress(a.Address, opts.UTF8) {
			continue
		}
		a.Name = displayName(a.Name)
		if opts.Headers == HeadersShy {
			a.Name = ""
		}
		if a.Name == "" {
			// String would put it into angle brackets.
			out = append(out, strings.Trim(a.String(), "<>"))
		} else {
			out = append(out, a.String())
		}
	}
	return out
}

// displayName returns a name without control characters, "" for one that is
// too long or that a mail program might read in two ways.
func displayName(name string) string {
	if strings.Contains(name, "=?") {
		// Encoded words in a quoted string: RFC 2047 §5 forbids them, and
		// programs decode them all the same.
		name, _ = (&mime.WordDecoder{CharsetReader: charset.Reader}).DecodeHeader(name)
	}
	name = strings.Join(strings.FieldsFunc(strings.ToValidUTF8(name, "\uFFFD"), isBlankOrControl), " ")
	if len(name) > maxDisplayName || strings.Contains(name, "=?") {
		return ""
	}
	return name
}

func isBlankOrControl(r rune) bool { return r <= ' ' || r >= 0x7F && r <= 0xA0 }

// findAddresses returns the addresses in a list that does not parse, for its
// sloppy names most often; they come without names. Where there are angle
// brackets only what is in them counts.
func findAddresses(text string) []*mail.Address {
	inBrackets, alone := addressPatterns()
	found := inBrackets.FindAllString(text, -1)
	if len(found) == 0 {
		found = alone.FindAllString(text, -1)
	}
	var list []*mail.Address
	for _, f := range found {
		list = append(list, &mail.Address{Address: strings.Trim(f, "<>")})
	}
	return list
}

// addressPatterns match an address in angle brackets and one alone.
var addressPatterns = sync.OnceValues(func() (inBrackets, alone *regexp.Regexp) {
	const atom = "[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
	const dotAtom = atom + `(?:\.` + atom + `)*`
	const address = dotAtom + "@" + dotAtom
	return regexp.MustCompile("<" + address + ">"), regexp.MustCompile(address)
})

// usableAddress reports whether an address can stand in a header: of a
// sensible length, printable, and in US-ASCII unless UTF-8 is allowed.
func usableAddress(address string, allowUTF8 bool) bool {
	if len(address) > maxAddress || !utf8.ValidString(address) {
		return false
	}
	for _, r := range address {
		if r < ' ' || r == 0x7F || r > 0x7F && !allowUTF8 {
			return false
		}
	}
	return true
}
