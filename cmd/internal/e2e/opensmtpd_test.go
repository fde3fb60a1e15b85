package e2e

import (
	"regexp"
	"strings"
	"testing"
)

// opensmtpd is the OpenSMTPD of a site, on its own machine.
type opensmtpd struct {
	*site
	machine *machine
}

// withOpenSMTPD returns the options for sites with OpenSMTPD, set up as in
// docs/opensmtpd.md.
func withOpenSMTPD(t *testing.T) options {
	t.Helper()
	needsPackage(t, "opensmtpd")
	return options{
		system: func(s *site) mailSystem { return &opensmtpd{site: s} },
		edit: func(site, file, text string) string {
			if file == "relay.toml" {
				return strings.Replace(text, `protocol = "lmtp"`, `protocol = "smtp"`, 1)
			}
			// otherRecipients has another rule.
			text = regexp.MustCompile(`(?m)^action "encrypt" (.*)$`).ReplaceAllString(text, "$0\naction \"plain\" $1 helo \"plain\"")
			text = strings.Replace(text, `match from local for domain "b.`, `match from local for domain "plain.b.example" action "plain"`+"\nmatch from local for domain \"b.", 1)
			// There is no need to be gentle with this machine.
			for _, limit := range []string{"conn-delay-host", "conn-delay-source", "conn-delay-connector", "conn-delay-relay", "conn-delay-domain", "conn-delay-route", "reconn-delay-route", "session-transaction-delay"} {
				text = "mta limit " + limit + " 0\n" + text
			}
			return text
		},
	}
}

func (d *opensmtpd) start(t *testing.T, o options, wire string) (wait func()) {
	t.Helper()
	text := d.lines(t, "opensmtpd/smtpd.conf")
	text = strings.ReplaceAll(text, "10029", port(d.sink.addr))
	text = strings.Replace(text, `action "internet" relay`, `action "internet" relay host smtp+notls://`+wire, 1)
	d.write(t, o, "smtpd.conf", text)
	d.machine = newMachine(t, "opensmtpd", d.dir, `
for name in opensmtpd opensmtpq; do useradd -r -M -d /nonexistent -s /usr/sbin/nologin $name; done
echo mail.`+d.domain()+` >/etc/mailname
chgrp opensmtpq /usr/sbin/smtpctl && chmod g+s /usr/sbin/smtpctl
install -m 0600 `+d.path("smtpd.conf")+` /etc/smtpd.conf
smtpd -d >`+d.path("mail.log")+` 2>&1`)
	return func() { d.awaitPorts(t, portInternet, portOwn, portOut, portIn) }
}

func (d *opensmtpd) flush() error {
	_, err := d.machine.run("smtpctl", "schedule", "all")
	return err
}

func (d *opensmtpd) queue(t *testing.T) string {
	t.Helper()
	out, err := d.machine.run("smtpctl", "show", "queue")
	if err != nil {
		t.Fatal(err)
	}
	return out
}
