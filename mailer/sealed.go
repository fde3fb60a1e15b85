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

// checkRecipients finds the recipients that a message is not sealed for, before
// anything of it is released. A site has the keys of all its mailboxes: whoever has a
// copy of a message and one of these mailboxes could have it decrypted for himself.
//
// The message has verified its key by now, and is bound to it. That is no harm to the
// recipients it is sealed for: for them it comes as the same message, and its key is
// kept until they have got it.
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

// foreignAttrs is who a message is not sealed for, for a log with addresses.
func (s *decryptSession) foreignAttrs(f *found) []slog.Attr {
	if !s.step.LogAddress || len(f.foreign) == 0 {
		return nil
	}
	some := f.foreign[:min(len(f.foreign), 5)]
	return []slog.Attr{slog.String("to", printable(strings.Join(some, " ")))}
}

const reasonReversePath = "reverse path"

// checkReversePath refuses an envelope sender that neither the peer nor the restored From
// has to do with. Nothing seals the envelope sender: whoever has a copy of a message could
// send it on with his own, and a report of its delivery would bring him the text.
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
