package mailer

import (
	"fmt"
	"strings"
	"testing"

	"github.com/qkdmail/qkdmail/cipher"
)

// What the cipher finds in a message has a reply of its own each, and
// none of the errors of the packages below is forgotten.
func TestReplies(t *testing.T) {
	for _, err := range []error{
		cipher.ErrWrongKey, cipher.ErrAltered, cipher.ErrSAE, cipher.ErrVersion, cipher.ErrSuite, cipher.ErrDamaged,
	} {
		if r := replyTo(fmt.Errorf("x: %w", err)); r.Code != 550 || r.Cause == nil || strings.Contains(r.Message, "x:") {
			t.Errorf("%v: %+v", err, r)
		}
	}
	if r := replyTo(fmt.Errorf("no such thing")); r.Code != 451 {
		t.Errorf("an unknown error: %+v", r)
	}
}
