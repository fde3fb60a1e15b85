package smtpwire

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"github.com/emersion/go-smtp"
)

// How long the values of these parameters may be, in bytes. They only inform, so longer
// ones are left out.
const (
	MaxEnvID = 100 // RFC 3461 §4.4
	MaxORCPT = 500 // RFC 3461 §4.2
)

// DecodeXtext decodes the xtext of RFC 3461 §4. A value that is not xtext comes back as it
// is: it only informs, and is no reason to refuse mail.
func DecodeXtext(s string) string {
	if !strings.Contains(s, "+") {
		return s
	}
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '+' {
			out = append(out, s[i])
			continue
		}
		b, err := hex.DecodeString(s[i+1 : min(i+3, len(s))])
		if err != nil || len(b) != 1 {
			return s
		}
		out = append(out, b[0])
		i += 2
	}
	return string(out)
}

// EncodeXtext encodes bytes as the xtext of RFC 3461 §4.
func EncodeXtext(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c < '!' || c > '~' || c == '+' || c == '=' {
			fmt.Fprintf(&b, "+%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// DecodeORCPT reads the value of an ORCPT parameter (RFC 3461 §4.2, RFC 6533 §3): its
// type, whatever it is, and its address. For any other value the type is "" and the
// address is the value.
func DecodeORCPT(value string) (kind smtp.DSNAddressType, address string) {
	name, rest, ok := strings.Cut(value, ";")
	if !ok || !isAtom(name) {
		return "", value
	}
	kind = smtp.DSNAddressType(name)
	if isUTF8Type(kind) {
		return kind, decodeUTF8Address(rest)
	}
	return kind, DecodeXtext(rest)
}

// isAtom reports whether the type of an address is an atom (RFC 3461 §4.2) of sensible
// length.
func isAtom(s string) bool {
	return s != "" && len(s) <= 64 && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') && r != '-'
	})
}

// EncodeORCPT writes an ORCPT value. With unitext, for an SMTPUTF8 transaction, it may
// contain plain UTF-8.
func EncodeORCPT(kind smtp.DSNAddressType, address string, unitext bool) string {
	switch {
	case kind == "":
		return EncodeXtext(address) // not an ORCPT value, but it may help someone
	case isUTF8Type(kind):
		return string(kind) + ";" + encodeUTF8Address(address, unitext)
	}
	return string(kind) + ";" + EncodeXtext(address)
}

func isUTF8Type(kind smtp.DSNAddressType) bool {
	return strings.EqualFold(string(kind), string(smtp.DSNAddressTypeUTF8))
}

// decodeUTF8Address decodes utf-8-addr-xtext and utf-8-addr-unitext of RFC 6533 §3, where
// \x{HEX} is a character.
func decodeUTF8Address(s string) string {
	var b strings.Builder
	rest := s
	for {
		before, after, found := strings.Cut(rest, `\x{`)
		b.WriteString(before)
		if !found {
			return b.String()
		}
		digits, tail, closed := strings.Cut(after, "}")
		r, err := strconv.ParseUint(digits, 16, 21)
		if !closed || err != nil {
			return s
		}
		b.WriteRune(rune(r))
		rest = tail
	}
}

func encodeUTF8Address(s string, unitext bool) string {
	var b strings.Builder
	for _, r := range s {
		if r <= ' ' || r == '+' || r == '=' || r == '\\' || r == 0x7F || r > 0x7F && !unitext {
			fmt.Fprintf(&b, `\x{%02X}`, r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}
