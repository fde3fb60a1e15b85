package e2e

import (
	"bytes"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/cmd/internal/relaytest"
)

// TestReports has Postfix B report on restored mail, with a bounce and a notification
// of success. The reports quote the header of the restored message, and go back
// encrypted.
func TestReports(t *testing.T) {
	reports(t, newWorld(t, options{}), false, "an-envelope", subject, restored)
}

const (
	subject  = "Subject-that-is-not-on-the-wire"
	restored = "Qkdmail-Result: mail.a.example"
)

// reports is TestReports for any mail system; with text, bounces may quote the text as
// well. A notification of success has these parts.
func reports(t *testing.T, w *world, text bool, success ...string) {
	t.Helper()
	const body = "Body-that-is-not-on-the-wire"
	message := []byte("From: alice@a.example\r\nTo: refused@b.example\r\nSubject: " + subject + "\r\n\r\n" + body + "\r\n")
	report := func(to string, parts ...string) {
		t.Helper()
		relaytest.Await(t, 30*time.Second, "report for "+to, func() bool { return len(w.a.sink.to(to)) > 0 })
		m := w.a.sink.to(to)[0]
		for _, part := range append(parts, "message/delivery-status") {
			if !bytes.Contains(m.data, []byte(part)) {
				t.Errorf("report for %s without %q:\n%s", to, part, m.data)
			}
		}
		if !text && bytes.Contains(m.data, []byte(body)) {
			t.Errorf("report for %s with the text, which could go to someone who sent a copy:\n%s", to, m.data)
		}
		if m.from != "" {
			t.Errorf("report from %q", m.from)
		}
	}

	// The sink refuses the recipient after B has taken the message.
	send(t, w.a.ports[portOwn], "bounced@a.example", []string{"refused@b.example"}, message)
	report("bounced@a.example", subject, restored)

	// The sink can't confirm a delivery, so B does, and quotes the header.
	c, err := dial(w.a.ports[portOwn])
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	if err := c.sendWith("RET=FULL ENVID=an-envelope", "notified@a.example", "NOTIFY=SUCCESS ORCPT=rfc822;bob@b.example", []string{"bob@b.example"}, message); err != nil {
		t.Fatal(err)
	}
	report("notified@a.example", success...)

	// Several recipients, one of whom is refused.
	send(t, w.a.ports[portOwn], "several@a.example", []string{"carol@b.example", "refused@b.example", "dave@aes.b.example"}, message)
	report("several@a.example", subject, restored)
	w.b.sink.one(t, "carol@b.example")
	w.b.sink.one(t, "dave@aes.b.example")

	for name, wire := range map[string]*tap{"A to B": w.ab, "B to A": w.ba} {
		for _, secret := range []string{subject, body} {
			if wire.saw(secret) {
				t.Errorf("%s was seen on the wire from %s", secret, name)
			}
		}
		if !wire.saw("Qkdmail-Key-ID: ") {
			t.Errorf("no encrypted mail was seen on the wire from %s", name)
		}
		t.Logf("wire from %s: %d messages, %d bytes, without the subject or the body", name, len(wire.messages()), wire.size())
	}
}
