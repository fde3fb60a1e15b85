package mailer

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/qkdmail/qkdmail/mailer/internal/smtpwire"
)

// ErrAddress: a text that is no mail address.
var ErrAddress = errors.New("no mail address")

// isPostmaster reports whether an address is the only recipient without a domain
// (RFC 5321 §4.5.1).
func isPostmaster(address string) bool { return strings.EqualFold(address, "postmaster") }

// CheckAddress reports whether a person has given an address alone, as the relay
// takes it between the angle brackets of RCPT: LOCAL@DOMAIN, or the word
// postmaster. With a name, brackets or blanks it is an [ErrAddress].
func CheckAddress(address string) error {
	mailbox, rest, err := smtpwire.Path("<"+address+">", "")
	_, domain := smtpwire.SplitMailbox(mailbox)
	if err != nil || rest != "" || mailbox == "" || strings.HasPrefix(address, "@") || !utf8.ValidString(address) ||
		checkAddress(mailbox, true) != nil || strings.HasPrefix(domain, ".") || strings.Contains(domain, "..") {
		return fmt.Errorf("%w: %q; it must be as bob@b.example, without a name, < > and blanks", ErrAddress, address)
	}
	return nil
}
