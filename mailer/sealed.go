package mailer

import (
	"log/slog"
	"slices"
	"strings"

	"github.com/emersion/go-smtp"
	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/mailer/internal/address"
	"github.com/qkdmail/qkdmail/mailer/internal/refusal"
	"github.com/qkdmail/qkdmail/mailer/internal/sender"
)

// checkRecipients finds the recipients that a message is not sealed for, before any of it
// is released. A site has the keys of all its mailboxes: whoever has a copy of a message
// and one of these mailboxes could otherwise have it decrypted and delivered there.
//
// By now the message has been verified under its key, and the key is bound to it. That
// does no harm to the recipients it is sealed for: for them it comes as the same message,
// and its key is kept until they have it.
func (s *decryptSession) checkRecipients(r *cipher.Reader, f *found) error {
	if f.peer.AnyRecipient {
		return nil
	}
	list, err := r.Recipients()
	if err != nil {
		return err
	}
	if err := s.take(int64(len(list)) * 16); err != nil {
		return err
	}
	f.list = list
	for _, rcpt := range s.rcpts {
		if !list.Include(rcpt) {
			f.foreign = append(f.foreign, rcpt)
		}
	}
	if len(f.foreign) > 0 && !f.each {
		f.foreign = s.rcpts // there is one answer for all of them
	}
	if len(f.foreign) == len(s.rcpts) {
		return redirected()
	}
	return nil
}

const reasonRedirected = "redirected"

// redirected is the answer for recipients that a message is not sealed for.
func redirected() *refusal.Refusal {
	return refusal.New(550, smtp.EnhancedCode{5, 7, 1}, reasonRedirected, "The encrypted message is not for this recipient")
}

// sealedFor returns the recipients that are not foreign.
func (s *decryptSession) sealedFor(f *found) []string {
	if len(f.foreign) == 0 {
		return s.rcpts
	}
	return slices.DeleteFunc(slices.Clone(s.rcpts), func(rcpt string) bool { return slices.Contains(f.foreign, rcpt) })
}

// foreignAttrs are the recipients that a message is not sealed for, for a log with
// addresses.
func (s *decryptSession) foreignAttrs(f *found) []slog.Attr {
	if !s.step.LogAddress || len(f.foreign) == 0 {
		return nil
	}
	some := f.foreign[:min(len(f.foreign), 5)]
	return []slog.Attr{slog.String("to", printable(strings.Join(some, " ")))}
}

const reasonReversePath = "reverse path"

// checkReversePath refuses an envelope sender that has nothing to do with the peer or the
// restored From. Nothing seals the envelope sender: whoever has a copy of a message could
// send it on under their own address, and a report of its delivery would bring them the
// text.
func (s *decryptSession) checkReversePath(peer *Peer, header []byte) error {
	if s.from == "" || peer.AnyRecipient || len(peer.Domains) == 0 {
		return nil
	}
	domain := address.Domain(s.from)
	if owner, known := s.step.Policy.PeerOfDomain(domain); known && owner == peer {
		return nil
	}
	if sender.Vouches(header, domain) {
		return nil
	}
	return refusal.New(550, smtp.EnhancedCode{5, 7, 1}, reasonReversePath, "The envelope sender has nothing to do with the encrypted message")
}
