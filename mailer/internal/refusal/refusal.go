// Package refusal has replies to a client that are not 250, each with its reason
// for logs and metrics.
package refusal

import (
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
