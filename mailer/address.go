package mailer

import (
	"strings"

	"github.com/emersion/go-smtp"
	"github.com/qkdmail/qkdmail/mailer/internal/smtpwire"
)

// checkAddress refuses an address of an envelope that the next hop could take
// for another one, or for more than an address. go-smtp takes the quotes off a
// local part and checks little: from
//
//	<"victim@else.example> NOTIFY=NEVER x"@b.example>
//
// comes an address that would end its path early.
func checkAddress(address string, utf8 bool) *refusal {
	if address == "" {
		return nil // the null sender
	}
	local, domain := smtpwire.SplitMailbox(address)
	if !utf8 && hasEightBit([]byte(address)) {
		return refuse(553, smtp.EnhancedCode{5, 6, 7}, "smtputf8", "An address that is not ASCII needs SMTPUTF8") // RFC 6531 §3.5
	}
	control := func(r rune) bool { return r < ' ' || r == 0x7F }
	if strings.EqualFold(address, "postmaster") {
		return nil // RFC 5321 §4.5.1
	}
	if local == "" || strings.ContainsFunc(local, control) || !isMailDomain(domain) {
		return refuse(553, smtp.EnhancedCode{5, 1, 3}, "address", "Bad address syntax")
	}
	return nil
}

// isMailDomain accepts domain names, those that hosts should not have included,
// and address literals. One that IDNA refuses is none: no rule knows whose it is, and
// a program behind us may take it for another.
func isMailDomain(s string) bool {
	if hasEightBit([]byte(s)) {
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
