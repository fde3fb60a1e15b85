package nexthop

import (
	"github.com/emersion/go-smtp"
	"github.com/qkdmail/qkdmail/mailer/internal/refusal"
)

// What can go wrong besides a refusal, which is a *smtp.SMTPError.
var (
	errDown = refusal.Sentinel("next hop can't be reached",
		refusal.New(451, smtp.EnhancedCode{4, 4, 1}, "next hop down", "The next hop can't be reached, try again later"))
	errBusy = refusal.Sentinel("all connections to the next hop are in use",
		refusal.New(451, smtp.EnhancedCode{4, 3, 2}, "next hop busy", "Too many connections to the next hop, try again later"))
	errLost = refusal.Sentinel("connection to the next hop lost",
		refusal.New(451, smtp.EnhancedCode{4, 4, 2}, "next hop lost", "The connection to the next hop was lost, try again later"))
	errAnswer = refusal.Sentinel("next hop does not answer as it should",
		refusal.New(451, smtp.EnhancedCode{4, 5, 0}, "next hop answer", "The next hop does not answer as it should, try again later"))
	errNoUTF8 = refusal.Sentinel("next hop does not offer SMTPUTF8",
		refusal.New(550, smtp.EnhancedCode{5, 6, 7}, "smtputf8", "The next hop does not support SMTPUTF8"))
	errSequence = refusal.Sentinel("no transaction",
		refusal.New(503, smtp.EnhancedCode{5, 5, 1}, "sequence", "No transaction"))
)
