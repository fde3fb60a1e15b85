package mailer

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"

	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/cipher/rawheader"
	"github.com/qkdmail/qkdmail/mailer/internal/message"
	"github.com/qkdmail/qkdmail/mailer/internal/outer"
)

// The fields in which the relay writes what it has found, and what others have found
// about the encrypted message. Those that come from outside are removed.
const (
	ResultField = "Qkdmail-Result"
	outerPrefix = "Qkdmail-Outer-" // and the name of the field
)

// found holds what a decrypting session finds out about a message.
type found struct {
	how  Outcome // if it is delivered
	info *cipher.Info
	peer *Peer
	keys timedGate

	each    bool              // each recipient gets an answer
	list    cipher.Recipients // whom it is sealed for, if that is checked
	foreign []string          // recipients that must not get it

	outer outer.Fields    // of the encrypted message
	inner *message.Reader // the restored message; nil: none
}

// report returns what became of the message, if it was delivered.
func (f *found) report() Report {
	r := Report{Direction: DirectionDecrypt, Outcome: f.how, KeyWait: f.keys.waited}
	if f.info != nil {
		r.Suite, r.Keys = f.info.Suite, len(f.info.KeyIDs)
	}
	if f.peer != nil {
		r.Peer = f.peer.Name
	}
	return r
}

func (f *found) attrs() []slog.Attr {
	attrs := append(make([]slog.Attr, 0, 10), slog.String("how", string(f.how)))
	if f.info == nil {
		return attrs
	}
	attrs = append(attrs, slog.String("suite", string(f.info.Suite)), slog.Int64("bytes", f.info.PlaintextSize), slog.Int("keys", len(f.info.KeyIDs)))
	if len(f.info.KeyIDs) > 0 {
		attrs = append(attrs, slog.String("key_id", f.info.KeyIDs[0]))
	}
	if f.peer != nil {
		attrs = append(attrs, slog.String("peer", f.peer.Name))
	}
	return attrs
}

// result returns the field for the mail system after the relay:
//
//	Qkdmail-Result: HOST; decrypt=pass; suite=OTP; peer=NAME; key-id=ID[; line-ends=lf][; outer-differs=from,date]
//
// It is on restored mail only, above all other fields.
func (s *session) result(inner *message.Reader, f *found, lf bool) string {
	clauses := []string{
		s.step.Hostname, "decrypt=pass", "suite=" + string(f.info.Suite), "peer=" + oneWord(f.peer.Name),
	}
	if len(f.info.KeyIDs) > 0 {
		clauses = append(clauses, "key-id="+oneWord(f.info.KeyIDs[0]))
	}
	if lf {
		clauses = append(clauses, "line-ends=lf")
	}
	if d := f.outer.Differing(inner); len(d) > 0 {
		clauses = append(clauses, "outer-differs="+strings.Join(d, ","))
	}
	return ResultField + ": " + strings.Join(clauses, ";\r\n\t") + "\r\n"
}

// transit returns the trace fields that relays put on the encrypted message and that stay
// on the restored one. Nothing authenticates them. Authentication-Results and
// Delivered-To are about the outer message, so they get names that say so: anyone can
// write a Delivered-To above a copy, and a mail system that takes it for a loop would
// bounce a text that already counts as delivered. So would a mail system with SMTPUTF8 in
// front of mailboxes without it, for a single character that is not ASCII.
func transit(fields [][]byte) string {
	var b strings.Builder
	for _, field := range fields {
		raw := message.Trace(field)
		for f := range rawheader.Fields(raw, rawheader.Lenient) {
			if f.Is("Authentication-Results") || f.Is("Delivered-To") {
				fmt.Fprintf(&b, "%s%s:%s\r\n", outerPrefix, f.Name, bytes.TrimRight(f.Value, "\r\n"))
			} else {
				b.Write(raw)
			}
		}
	}
	return b.String()
}
