package mailer

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strings"
	"unicode/utf8"
)

// readableORCPT returns a RCPT command that go-smtp can read. Postfix gives the
// original recipient of SMTPUTF8 mail as "rfc822" with its UTF-8 in xtext, where
// RFC 6533 §3 has "utf-8" and an encoding of its own; go-smtp answers 501, and
// the mail would be returned. A parameter that is right, or none, stays.
func readableORCPT(line []byte) []byte {
	if len(line) < 5 || !strings.EqualFold(string(line[:5]), "RCPT ") {
		return line
	}
	end := bytes.LastIndexByte(line, '>') // parameters come behind the path
	for at := end + 1; at > 0 && at < len(line); {
		begin := at + len(line[at:]) - len(bytes.TrimLeft(line[at:], " "))
		stop := begin + bytes.IndexAny(line[begin:], " \r\n")
		if stop <= begin {
			break
		}
		if param := utf8ORCPT(string(line[begin:stop])); param != "" {
			return append(append(bytes.Clone(line[:begin]), param...), line[stop:]...)
		}
		at = stop
	}
	return line
}

// utf8ORCPT returns an ORCPT parameter of the type rfc822 that is UTF-8 as one
// of the type utf-8, and "" for all else.
func utf8ORCPT(param string) string {
	const prefix = "ORCPT=rfc822;"
	if len(param) < len(prefix) || !strings.EqualFold(param[:len(prefix)], prefix) {
		return ""
	}
	address, ok := xtext(param[len(prefix):])
	if !ok || !utf8.ValidString(address) || !hasEightBit([]byte(address)) {
		return ""
	}
	var b strings.Builder
	for _, r := range address {
		if r <= ' ' || r == '+' || r == '=' || r == '\\' || r >= 0x7F {
			fmt.Fprintf(&b, `\x{%02X}`, r)
		} else {
			b.WriteRune(r)
		}
	}
	return "ORCPT=utf-8;" + b.String()
}

// xtext decodes RFC 3461 §4.
func xtext(s string) (string, bool) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '+' {
			b.WriteByte(s[i])
			continue
		}
		c, err := hex.DecodeString(s[i+1 : min(i+3, len(s))])
		if err != nil || len(c) != 1 {
			return "", false
		}
		b.Write(c)
		i += 2
	}
	return b.String(), true
}
