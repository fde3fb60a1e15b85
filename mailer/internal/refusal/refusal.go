// Package refusal has replies to a client other than 250, each with its reason for logs
// and metrics.
package refusal

import (
	"errors"
	"fmt"

	"github.com/emersion/go-smtp"
)

// A Refusal is a reply other than 250.
type Refusal struct {
	*smtp.SMTPError
	Reason string // a word or two, of a fixed set: see mailer.Reasons
	Cause  error  // for the log; never sent to the client
}

// New returns a refusal; text is for the client.
func New(code int, enhanced smtp.EnhancedCode, reason, text string) *Refusal {
	return &Refusal{SMTPError: &smtp.SMTPError{Code: code, EnhancedCode: enhanced, Message: text}, Reason: reason}
}

// Because adds the cause for the log.
func (r *Refusal) Because(err error) *Refusal {
	r.Cause = err
	return r
}

// Error returns the reason and the cause.
func (r *Refusal) Error() string {
	if r.Cause != nil {
		return fmt.Sprintf("%s: %v", r.Reason, r.Cause)
	}
	return r.Reason
}

// Unwrap returns the cause.
func (r *Refusal) Unwrap() error { return r.Cause }

// A sentinel is an error that always gives the client the same reply.
type sentinel struct {
	text  string
	reply *Refusal
}

func (s *sentinel) Error() string { return s.text }

// Sentinel returns an error with a text of its own for the log, to be wrapped with its
// cause.
func Sentinel(text string, reply *Refusal) error { return &sentinel{text, reply} }

// Of returns the refusal that err is or wraps, or that is the reply to it. A caller may
// change what it gets: it is of this err alone.
func Of(err error) (r *Refusal, ok bool) {
	if r, ok = errors.AsType[*Refusal](err); ok {
		return r, true
	}
	s, ok := errors.AsType[*sentinel](err)
	if !ok {
		return nil, false
	}
	reply := *s.reply.SMTPError
	return &Refusal{SMTPError: &reply, Reason: s.reply.Reason, Cause: err}, true
}
