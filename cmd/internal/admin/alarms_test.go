package admin

import (
	"strings"
	"testing"

	"github.com/qkdmail/qkdmail/mailer"
)

// TestRedirectedAlarm: a message for a recipient that it is not sealed for raises an
// alarm, with or without a store. The alarm's name is also that of a reason.
func TestRedirectedAlarm(t *testing.T) {
	known := false
	for _, r := range mailer.Reasons() {
		known = known || r.Name == redirected
	}
	if !known {
		t.Errorf("%q is not a reason for a refusal", redirected)
	}
	for name, change := range map[string]func(*Sources){
		"with a store": func(*Sources) {},
		"without":      func(s *Sources) { s.Store, s.StoreWarnings = nil, nil },
	} {
		r := newRig(t, change)
		r.check(t.Context())
		url := serve(t, r.Handler(), ServeOptions{})
		count := func() string {
			_, body := get(t, url+"/metrics")
			_, after, _ := strings.Cut(body, "\nqkdmail_attack_alarms_total{kind=\"redirected\"} ")
			number, _, _ := strings.Cut(after, "\n")
			return number
		}
		if n := count(); n != "0" {
			t.Errorf("%s: at the start the metric is %q, want 0", name, n)
		}
		r.Message(report(mailer.DirectionDecrypt, "site-b", mailer.OutcomeRefused, redirected))
		r.Message(report(mailer.DirectionDecrypt, "site-b", mailer.OutcomeDecrypted, "")) // its other recipients
		if n := count(); n != "1" {
			t.Errorf("%s: the metric is %q, want 1", name, n)
		}
		_, page := get(t, url+"/")
		for _, want := range []string{
			"Since the start, once a message came for a recipient that it was not sealed for. None",
			"<dt>Recipient that the message was not sealed for</dt><dd>1</dd>",
		} {
			if !strings.Contains(page, want) {
				t.Errorf("%s: the page does not have %q", name, want)
			}
		}
	}
}
