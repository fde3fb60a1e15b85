package mailer

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/emersion/go-smtp"
	"github.com/qkdmail/qkdmail/mailer/internal/address"
	"github.com/qkdmail/qkdmail/mailer/internal/message"
	"github.com/qkdmail/qkdmail/mailer/internal/refusal"
	"github.com/qkdmail/qkdmail/mailer/internal/smtpwire"
)

// ErrAddress: a text is not a mail address.
var ErrAddress = errors.New("not a mail address")

// CheckAddress checks that a person has given a bare address, as the relay takes it
// between the angle brackets of RCPT: LOCAL@DOMAIN, or the word postmaster. With a name,
// brackets or blanks the error is an [ErrAddress].
func CheckAddress(addr string) error {
	mailbox, rest, err := smtpwire.Path("<"+addr+">", "")
	_, domain := smtpwire.SplitMailbox(mailbox)
	if err != nil || rest != "" || mailbox == "" || strings.HasPrefix(addr, "@") || !utf8.ValidString(addr) ||
		checkAddress(mailbox, true) != nil || strings.HasPrefix(domain, ".") || strings.Contains(domain, "..") {
		return fmt.Errorf("%w: %q; it must be like bob@b.example, without a name, < > or blanks", ErrAddress, addr)
	}
	return nil
}

// checkAddress refuses an envelope address that the next hop could take for another
// address, or for more than an address. go-smtp strips the quotes from a local part and
// checks little. It turns
//
//	<"victim@else.example> NOTIFY=NEVER x"@b.example>
//
// into an address that would end its path early.
func checkAddress(addr string, utf8 bool) *refusal.Refusal {
	if addr == "" {
		return nil // the null sender
	}
	local, domain := smtpwire.SplitMailbox(addr)
	if !utf8 && message.HasEightBit([]byte(addr)) {
		return refusal.New(553, smtp.EnhancedCode{5, 6, 7}, "smtputf8", "An address that is not ASCII needs SMTPUTF8") // RFC 6531 §3.5
	}
	if isPostmaster(addr) {
		return nil
	}
	control := func(r rune) bool { return r < ' ' || r == 0x7F }
	if local == "" || strings.ContainsFunc(local, control) || !address.IsMailDomain(domain) {
		return refusal.New(553, smtp.EnhancedCode{5, 1, 3}, "address", "Bad address syntax")
	}
	return nil
}

// isPostmaster reports whether an address is the only recipient without a domain
// (RFC 5321 §4.5.1).
func isPostmaster(addr string) bool { return strings.EqualFold(addr, "postmaster") }
