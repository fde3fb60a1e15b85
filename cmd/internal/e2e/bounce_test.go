package e2e

import (
	"bytes"
	"testing"
	"time"
)

// TestReports has Postfix B make reports of restored mail: a bounce and a
// notification of success. They quote what was restored, and go home encrypted.
func TestReports(t *testing.T) {
	w := newWorld(t, options{})
	const subject, body = "Subject-that-nobody-on-the-wire-may-read", "Body-that-nobody-on-the-wire-may-read"
	text := []byte("From: alice@a.example\r\nTo: refused@b.example\r\nSubject: " + subject + "\r\n\r\n" + body + "\r\n")
	report := func(to string, part string) {
		t.Helper()
		await(t, 30*time.Second, "report for "+to, func() bool { return len(w.a.sink.to(to)) > 0 })
		m := w.a.sink.to(to)[0]
		for _, part := range []string{part, subject, "Qkdmail-Result: mail.a.example", "multipart/report"} {
			if !bytes.Contains(m.data, []byte(part)) {
				t.Errorf("report for %s without %q:\n%s", to, part, m.data)
			}
		}
		if m.from != "" {
			t.Errorf("report from %q", m.from)
		}
	}

	// The sink refuses the recipient when B has taken the message.
	send(t, w.a.ports[portOwn], "bounced@a.example", []string{"refused@b.example"}, text)
	report("bounced@a.example", body)

	// The sink can't confirm a delivery, so B does, and quotes the header.
	c, err := dial(w.a.ports[portOwn])
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	if err := c.sendWith("RET=FULL ENVID=an-envelope", "notified@a.example", "NOTIFY=SUCCESS ORCPT=rfc822;bob@b.example", []string{"bob@b.example"}, text); err != nil {
		t.Fatal(err)
	}
	report("notified@a.example", "an-envelope")

	// Both, and mail to several recipients of whom one is refused.
	send(t, w.a.ports[portOwn], "several@a.example", []string{"carol@b.example", "refused@b.example", "dave@aes.b.example"}, text)
	report("several@a.example", body)
	w.b.sink.one(t, "carol@b.example")
	w.b.sink.one(t, "dave@aes.b.example")

	for name, wire := range map[string]*tap{"A to B": w.ab, "B to A": w.ba} {
		for _, secret := range []string{subject, body} {
			if wire.saw(secret) {
				t.Errorf("%s was seen on the wire from %s", secret, name)
			}
		}
		if !wire.saw("Qkdmail-Key-ID: MOCK-KEY-") {
			t.Errorf("nothing encrypted was seen on the wire from %s", name)
		}
		t.Logf("wire from %s: %d messages, %d octets, none of the subject or the body", name, len(wire.messages()), wire.octets())
	}
}
