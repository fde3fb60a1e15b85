package e2e

import (
	"testing"

	"github.com/qkdmail/qkdmail/cmd/internal/relaytest"
)

// TestOthers does for other mail systems what TestBothWays, TestReports,
// TestRecipients, TestArriving and TestKeyManagerDown do for Postfix.
func TestOthers(t *testing.T) {
	t.Parallel()
	for _, s := range []struct {
		name string
		with func(*testing.T) options

		fields  string   // above each message
		line    int      // the longest
		full    bool     // addresses in UTF-8, refusals before the queue
		text    bool     // bounces always quote the text
		success []string // parts of a notification of success
	}{
		// B's Exim is not asked for a notification: A's says that the message has
		// left.
		{"Exim", withExim, fields, 500_000, true, false, []string{"an-envelope", "Action: delivered"}},
		// OpenSMTPD adds missing fields, removes Bcc, and refuses longer lines.
		{"OpenSMTPD", withOpenSMTPD, "Date: Mon, 01 Jun 2026 10:00:00 +0000\r\nMessage-ID: <1@a.example>\r\nFrom: a@d.example\r\n", 65_000, false, true, []string{subject, restored}},
	} {
		start := func(t *testing.T, gates map[string]*relaytest.Gate) *world {
			t.Helper()
			t.Parallel()
			o := s.with(t)
			o.km, o.rules = etsi(t, gates), otherRecipients
			return newWorld(t, o)
		}
		t.Run(s.name, func(t *testing.T) {
			t.Run("both ways", func(t *testing.T) {
				w := start(t, nil)
				bothWays(t, w, mail(s.fields, s.line))
				if s.full {
					utf8(t, w)
				}
			})
			t.Run("reports", func(t *testing.T) { reports(t, start(t, nil), s.text, s.success...) })
			t.Run("recipients", func(t *testing.T) { manyRecipients(t, start(t, nil)) })
			if s.full {
				t.Run("arriving", func(t *testing.T) { arriving(t, start(t, nil)) })
			}
			t.Run("key manager down", func(t *testing.T) {
				gates := map[string]*relaytest.Gate{}
				keyManagerDown(t, start(t, gates), gates)
			})
		})
	}
}
