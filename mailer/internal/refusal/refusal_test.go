package refusal_test

import (
	"fmt"
	"testing"

	"github.com/emersion/go-smtp"
	"github.com/qkdmail/qkdmail/mailer/internal/refusal"
)

// Whoever changes the reply to one message does not change the replies to others.
func TestReplyOfSentinelIsOnesOwn(t *testing.T) {
	sentinel := refusal.Sentinel("down", refusal.New(550, smtp.EnhancedCode{5, 1, 1}, "down", "It is down"))
	for range 2 {
		r, ok := refusal.Of(fmt.Errorf("a message: %w", sentinel))
		if !ok || r.Code != 550 || r.EnhancedCode != (smtp.EnhancedCode{5, 1, 1}) || r.Reason != "down" {
			t.Fatalf("the refusal is %+v %+v, want 550 5.1.1", r, r.SMTPError)
		}
		r.Code, r.EnhancedCode[0] = 451, 4
	}
}
