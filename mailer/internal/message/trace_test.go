package message_test

import (
	"testing"

	"github.com/qkdmail/qkdmail/mailer/internal/message"
)

func TestTrace(t *testing.T) {
	for field, want := range map[string]string{
		"Received: a;\r\n\tb ~\r\n":           "Received: a;\r\n\tb ~\r\n",
		"Received: a\n b\n":                   "Received: a\r\n b\r\n",
		"Received: \u00fc\xff\x00\x7f\x1b[\n": "Received: ?????[\r\n",
		"":                                    "",
	} {
		if got := string(message.Trace([]byte(field))); got != want {
			t.Errorf("%q becomes %q, want %q", field, got, want)
		}
	}
}
