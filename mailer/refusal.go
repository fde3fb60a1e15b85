package mailer

import (
	"errors"
	"io"
	"net"
	"strings"

	"github.com/emersion/go-smtp"
	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keystore"
	"github.com/qkdmail/qkdmail/mailer/internal/message"
	"github.com/qkdmail/qkdmail/mailer/internal/refusal"
)

// ErrConfig: the configuration makes no sense, or can't be read.
var ErrConfig = errors.New("configuration")

// replyTo turns an error of the cipher, a key manager or the next hop into a refusal.
// What may pass with time is temporary: the mail stays in the queue of the mail system
// that sent it.
func replyTo(err error) *refusal.Refusal {
	if r, ok := refusal.Of(err); ok { // it may wrap a reply to the next hop's greeting, which is no answer to this message
		return r
	}
	for _, m := range replies() {
		if errors.Is(err, m.err) {
			return refusal.New(m.code, m.enhanced, m.reason, m.text).Because(err)
		}
	}
	var s *smtp.SMTPError
	if errors.As(err, &s) {
		return passOn(s)
	}
	var ne net.Error
	if errors.Is(err, message.ErrDropped) || errors.As(err, &ne) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return refusal.New(451, smtp.EnhancedCode{4, 4, 2}, "connection lost", "Connection lost, try again later").Because(err)
	}
	return refusal.New(451, smtp.EnhancedCode{4, 3, 0}, "internal", "Local error, try again later").Because(err)
}

// passOn returns the refusal of the next backend for the client, if it is one: the client
// would take 2xx for success and 354 for leave to send its message. 421 would be about
// the client's own connection.
func passOn(s *smtp.SMTPError) *refusal.Refusal {
	switch {
	case s.Code == 421:
		return refusal.New(451, smtp.EnhancedCode{4, 4, 2}, "next hop lost", "The next hop closes its connection, try again later")
	case s.Code < 400 || s.Code > 599:
		return refusal.New(451, smtp.EnhancedCode{4, 5, 0}, "next hop answer", "The next hop does not answer as it should, try again later")
	}
	enhanced := s.EnhancedCode
	if enhanced[0] != s.Code/100 {
		enhanced = smtp.EnhancedCodeNotSet
	}
	lines := strings.Split(s.Message, "\n")
	for i := range lines {
		lines[i] = printable(lines[i])
	}
	text := strings.Join(lines, "\n")
	return refusal.New(s.Code, enhanced, reasonNextHop, text[:min(len(text), maxReplyText)])
}

const reasonNextHop = "next hop"

// maxReplyText is how much of a next hop's reply is passed on, in bytes.
const maxReplyText = 2000

// replies lists errors of other packages, and the replies to them.
func replies() []struct {
	err      error
	code     int
	enhanced smtp.EnhancedCode
	reason   string
	text     string
} {
	return []struct {
		err      error
		code     int
		enhanced smtp.EnhancedCode
		reason   string
		text     string
	}{
		{cipher.ErrWrongKey, 550, smtp.EnhancedCode{5, 7, 7}, "authentication", "The encrypted message or its header was altered"},
		{cipher.ErrAltered, 550, smtp.EnhancedCode{5, 7, 7}, "authentication", "The encrypted message was altered"},
		{cipher.ErrSAE, 550, smtp.EnhancedCode{5, 7, 1}, "sae", "The encrypted message is not from a configured peer to this site"},
		{cipher.ErrVersion, 550, smtp.EnhancedCode{5, 7, 5}, "version", "The encrypted message is in a format unknown here"},
		{cipher.ErrSuite, 550, smtp.EnhancedCode{5, 7, 5}, "suite", "The encrypted message uses a cipher suite unknown here"},
		{cipher.ErrHybridKey, 451, smtp.EnhancedCode{4, 7, 5}, "hybrid key", "The X-Wing key of this message is not here, try again later"},
		{cipher.ErrPad, 451, smtp.EnhancedCode{4, 7, 5}, "no pad", "The key manager gives no keys for a one-time pad, try again later"},
		{cipher.ErrTooManyKeys, 552, smtp.EnhancedCode{5, 3, 4}, "size", "The message is too long for a one-time pad"},
		{cipher.ErrDamaged, 550, smtp.EnhancedCode{5, 7, 7}, "damaged", "The encrypted message is damaged, send it again"},
		{keystore.ErrBound, 550, smtp.EnhancedCode{5, 7, 1}, "key bound", "The key of this message belongs to another message, send it again"},
		{keystore.ErrClosed, 550, smtp.EnhancedCode{5, 7, 1}, "key closed", "The key of this message is closed, send it again"},
		{keystore.ErrClaimed, 550, smtp.EnhancedCode{5, 7, 1}, "key reused", "The key of this message was used before, send it again"},
		{keystore.ErrReused, 451, smtp.EnhancedCode{4, 7, 5}, "key reused", "The key manager gave out a key twice, try again later"},
		{kmclient.ErrKeyNotFound, 451, smtp.EnhancedCode{4, 7, 5}, "key not found", "The key of this message is not here yet, try again later"},
		{kmclient.ErrKeyExhausted, 451, smtp.EnhancedCode{4, 7, 5}, "no key left", "No key left, try again later"},
		{kmclient.ErrRefused, 451, smtp.EnhancedCode{4, 7, 5}, "km refuses", "The key manager does not serve us, try again later"},
		{kmclient.ErrUnavailable, 451, smtp.EnhancedCode{4, 7, 5}, "km unavailable", "The key manager is unavailable, try again later"},
		{kmclient.ErrBadKey, 451, smtp.EnhancedCode{4, 7, 5}, "bad key", "The key manager gives unusable keys, try again later"},
		{kmclient.ErrBadAnswer, 451, smtp.EnhancedCode{4, 7, 5}, "km answer", "The key manager does not answer as it should, try again later"},
		{kmclient.ErrBadRequest, 451, smtp.EnhancedCode{4, 7, 5}, "km request", "The key manager can't meet the request, try again later"},
		{kmclient.ErrStore, 451, smtp.EnhancedCode{4, 3, 0}, "key store", "The key store fails, try again later"},
	}
}
