package mailer

import (
	"time"

	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/mailer/internal/refusal"
)

// An Observer gets a report of each message, for metrics. It is called before the client
// is answered, by several goroutines at the same time, and must not block.
type Observer interface {
	Message(Report)
}

// A Report is what became of a message. No text in it comes from the message: each text
// is one of a fixed set.
type Report struct {
	Direction Direction
	Peer      string       // its name in the policy; "": none, or not known yet
	Suite     cipher.Suite // "": none
	Outcome   Outcome
	Reason    string // one of Reasons; "" if the message was delivered to at least one recipient
	Delivered int    // recipients who have received it
	Command   string // MAIL or RCPT, if that was refused and no message came; else ""

	Size    int64         // of the message as it came, as far as it was read, in bytes
	Keys    int           // it was encrypted with
	Total   time.Duration // from MAIL to the answer; 0 if MAIL was refused
	KeyWait time.Duration // of that, for the key manager and the key store
	HopWait time.Duration // of that, for the next hop's answer to the whole message
}

// A Direction is what a step does with mail.
type Direction string

// The directions.
const (
	DirectionEncrypt Direction = "encrypt"
	DirectionDecrypt Direction = "decrypt"
)

// An Outcome is what became of a message. If some of its recipients have received it, it
// counts as delivered.
type Outcome string

// The outcomes. Those of delivered messages are in the log as "how".
const (
	OutcomeEncrypted Outcome = "encrypted"
	OutcomeInClear   Outcome = "in clear" // as the rule says, or for want of keys if the rule allows that
	OutcomePassed    Outcome = "passed"   // was encrypted before it came
	OutcomeDecrypted Outcome = "decrypted"
	OutcomePlain     Outcome = "plain"            // was not encrypted, and need not be
	OutcomeBefore    Outcome = "delivered before" // to all of its recipients, so not again
	OutcomeDeferred  Outcome = "deferred"         // 4xx: it will be sent again
	OutcomeRefused   Outcome = "refused"          // 5xx
)

// report reports to the observer.
func (s *session) report(r Report, refused *refusal.Refusal) {
	if s.step.Observer == nil {
		return
	}
	if refused != nil && r.Delivered == 0 {
		r.Reason, r.Outcome = refused.Reason, OutcomeRefused
		if refused.Code < 500 {
			r.Outcome = OutcomeDeferred
		}
	}
	if s.lines != nil {
		r.Size = s.lines.Size()
	}
	if !s.start.IsZero() {
		r.Total = time.Since(s.start)
	}
	s.step.Observer.Message(r)
}
