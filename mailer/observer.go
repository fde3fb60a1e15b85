package mailer

import (
	"context"
	"time"

	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/mailer/internal/refusal"
)

// An Observer is told what became of each message, for metrics. It is called
// before the client is answered, by several goroutines at the same time, and
// must not wait for anything.
type Observer interface {
	Message(Report)
}

// A Report is what an [Observer] is told. Nothing in it comes from the message:
// every text is one of a few.
type Report struct {
	Direction Direction
	Peer      string       // its name in the policy; "": none, or not known yet
	Suite     cipher.Suite // "": none
	Outcome   Outcome
	Reason    string // one of Reasons; "" if the message was delivered, to one recipient at least
	Delivered int    // recipients who have got it
	Command   string // MAIL or RCPT, if that was refused and no message came; else ""

	Octets  int64         // of the message as it came, as far as it was read
	Keys    int           // that it was encrypted with
	Total   time.Duration // from MAIL to the answer; 0 if MAIL was refused
	KeyWait time.Duration // of it, for the key manager and the key store
	HopWait time.Duration // of it, for the next hop's answer to the whole message
}

// A Direction is what a step does with mail.
type Direction string

// The directions.
const (
	DirectionEncrypt Direction = "encrypt"
	DirectionDecrypt Direction = "decrypt"
)

// An Outcome is what became of a message. Delivered to some of its recipients
// is delivered.
type Outcome string

// The outcomes; those of delivered messages are in the log as "how".
const (
	OutcomeEncrypted Outcome = "encrypted"
	OutcomeInClear   Outcome = "in clear" // as the rule says, or for want of keys where it allows that
	OutcomePassed    Outcome = "passed"   // was encrypted before it came
	OutcomeDecrypted Outcome = "decrypted"
	OutcomePlain     Outcome = "plain"            // was not encrypted, and need not be
	OutcomeBefore    Outcome = "delivered before" // to all of its recipients, so not again
	OutcomeDeferred  Outcome = "deferred"         // 4xx: it will be sent again
	OutcomeRefused   Outcome = "refused"          // 5xx
)

// report tells the observer.
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
		r.Octets = s.lines.Size()
	}
	if !s.start.IsZero() {
		r.Total = time.Since(s.start)
	}
	s.step.Observer.Message(r)
}

// A stopwatch adds up how long one message waits for the key manager and the key
// store.
type stopwatch struct{ waited time.Duration }

func (w *stopwatch) since(start time.Time) { w.waited += time.Since(start) }

// A timedSource is keys to encrypt with, timed. take asks for the memory that they
// take.
type timedSource struct {
	cipher.KeySource
	take func(n int64) error
	stopwatch
	status *kmclient.Status // that was given for this message
}

// Status is asked for once a message.
func (t *timedSource) Status(ctx context.Context, peer string) (kmclient.Status, error) {
	if t.status != nil {
		return *t.status, nil
	}
	defer t.since(time.Now())
	s, err := t.KeySource.Status(ctx, peer)
	if err == nil {
		t.status = &s
	}
	return s, err
}

func (t *timedSource) GetKeys(ctx context.Context, peer string, size, number int) ([]*kmclient.Key, error) {
	if err := t.take(int64(number) * keyMemory); err != nil {
		return nil, err
	}
	defer t.since(time.Now())
	return t.KeySource.GetKeys(ctx, peer, size, number)
}

// A timedGate is keys to decrypt with, for a message of one client, timed.
type timedGate struct {
	*keyGate
	client string
	take   func(n int64) error
	stopwatch
}

func (t *timedGate) KeysByID(ctx context.Context, peer string, ids ...string) ([]*kmclient.Key, error) {
	if err := t.take(int64(len(ids)) * keyMemory); err != nil {
		return nil, err
	}
	defer t.since(time.Now())
	return t.keysByID(ctx, t.client, peer, ids...)
}

func (t *timedGate) BindKeys(ctx context.Context, peer string, identity kmclient.Identity, frame uint64, ids ...string) error {
	defer t.since(time.Now())
	return t.bindKeys(ctx, peer, identity, frame, ids...)
}
