package relay_test

import (
	"context"
	"fmt"
	"mime"
	"os"
	"strings"
	"testing"

	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/mailer"
	"github.com/qkdmail/qkdmail/mailer/internal/mailtest"
	"github.com/qkdmail/qkdmail/mailer/relay/config"
)

// asks are what triggers ask for: in the table, and as the word that marks a message.
var asks = [][2]string{{"none", ""}, {"`encrypt`", "encrypt"}, {"`suite`", "suite"}, {"both", "both"}}

// triggerRules returns the rules of the table, by their names there.
func triggerRules() (names []string, rules []config.Rule) {
	add := func(mode mailer.Mode, suite string) {
		rule := config.Rule{Domain: strings.Trim(mode.String()+"-"+suite, "-") + ".example", Encrypt: mode, Suite: suite}
		name := "`" + mode.String() + "`"
		if mode != mailer.Never {
			rule.Peer = "bravo"
			name += ", `" + suite + "`"
		}
		if suite == "auto" {
			rule.PadLimit = 1024
		}
		names, rules = append(names, name), append(rules, rule)
	}
	add(mailer.Never, "")
	for _, mode := range []mailer.Mode{mailer.Opportunistic, mailer.Required} {
		for _, suite := range []string{"aes-256-gcm", "auto", "otp"} {
			add(mode, suite)
		}
	}
	return names, rules
}

// withTriggers gives a relay each trigger, by sender and by header.
func withTriggers(c *config.Config) {
	_, rules := triggerRules()
	if len(c.Rules) > 0 {
		c.Rules = append(rules, c.Rules...)
	}
	for _, ask := range asks[1:] {
		encrypt, suite := "required", "otp"
		switch ask[1] {
		case "encrypt":
			suite = ""
		case "suite":
			encrypt = ""
		}
		c.Triggers = append(c.Triggers,
			config.Trigger{Name: "by-sender-" + ask[1], From: []string{ask[1] + "@a.example", ask[1] + "@x.example"}, Encrypt: encrypt, Suite: suite},
			config.Trigger{Name: "by-header-" + ask[1], Header: "X-Mark", Pattern: "^" + ask[1] + "$", Encrypt: encrypt, Suite: suite})
	}
}

// marked returns the message of a cell, and its sender. The mark in the header is folded
// and encoded.
func marked(kind, ask, domain string) (message, from string) {
	from = "alice@" + domain
	header := "From: " + from + "\r\n"
	switch {
	case ask == "":
	case kind == "sender":
		from = ask + "@" + domain
	default:
		header += "x-mark:\r\n " + mime.BEncoding.Encode("utf-8", "\u200b"+ask) + "\r\n"
	}
	return header + "\r\n" + strings.Repeat("a line\r\n", 300), from
}

// A triggerRelay is a relay with which the cells of a protocol are tried.
type triggerRelay struct {
	*testing.T
	hop *mailtest.Hop
	r   *mailtest.Relay
	c   *mailtest.Client
}

// outcome sends a message and says what became of it.
func (x *triggerRelay) outcome(message, from, to string) string {
	x.Helper()
	x.hop.Forget()
	x.c.Want("250", x.c.Cmd("MAIL FROM:<"+from+">"))
	if reply := x.c.Cmd("RCPT TO:<" + to + ">"); !strings.HasPrefix(reply, "250") {
		x.c.Want("250", x.c.Cmd("RSET"))
		x.c.Want("550 5.7.1 This message must be sent encrypted", reply)
		return "550 after RCPT"
	}
	x.c.Want("354", x.c.Cmd("DATA"))
	x.c.Send(mailtest.Stuffed(message))
	reply := x.c.Reply()
	if !strings.HasPrefix(reply, "250") {
		x.hop.None()
	}
	switch {
	case strings.HasPrefix(reply, "451 4.7.5"):
		return "waits"
	case strings.HasPrefix(reply, "550 5.7.1 This message must be sent encrypted"):
		return "550 after the message"
	}
	x.c.Want("250", reply)
	got := x.hop.One().Data
	if strings.HasSuffix(got, "\r\n"+message) {
		return "in clear"
	}
	if opened := mailtest.Open(x, x.r.KM, got); opened != message {
		x.Errorf("to %s: %d bytes came, want the %d of the message", to, len(opened), len(message))
	}
	return string(mailtest.Decrypt(x, x.r.KM, got).Info().Suite)
}

// cell says what a relay does with and without keys.
func (x *triggerRelay) cell(message, from, to string) string {
	x.r.KM.OnGet = nil
	with := x.outcome(message, from, to)
	x.r.KM.OnGet = func(context.Context) error { return kmclient.ErrKeyExhausted }
	without := x.outcome(message, from, to)
	if with == without {
		return with
	}
	return with + ", or " + without
}

// triggerColumns are the columns of the table.
var triggerColumns = []struct {
	kind     string
	protocol config.Protocol
}{{"sender", config.SMTP}, {"sender", config.LMTP}, {"header", config.SMTP}, {"header", config.LMTP}}

// TestTriggerTable: the table in docs/triggers.md is what the relay does.
func TestTriggerTable(t *testing.T) {
	mailtest.NoLeaks(t)
	relays := map[config.Protocol]map[mailer.Direction]*triggerRelay{}
	for _, protocol := range []config.Protocol{config.SMTP, config.LMTP} {
		relays[protocol] = map[mailer.Direction]*triggerRelay{}
		for _, d := range []mailer.Direction{mailer.DirectionEncrypt, mailer.DirectionDecrypt} {
			hop, r, c := mailtest.Start(t, d, withTriggers, func(c *config.Config) { c.Listeners[0].Protocol = protocol })
			relays[protocol][d] = &triggerRelay{t, hop, r, c}
		}
	}
	var table strings.Builder
	row := func(rule, ask string, cell func(kind string, x map[mailer.Direction]*triggerRelay) string) {
		fmt.Fprintf(&table, "| %s | %s |", rule, ask)
		for _, column := range triggerColumns {
			fmt.Fprintf(&table, " %s |", cell(column.kind, relays[column.protocol]))
		}
		table.WriteByte('\n')
	}
	table.WriteString("| rule | trigger | sender, SMTP | sender, LMTP | header, SMTP | header, LMTP |\n|---|---|---|---|---|---|\n")
	names, rules := triggerRules()
	for i, rule := range rules {
		for _, ask := range asks {
			row(names[i], ask[0], func(kind string, x map[mailer.Direction]*triggerRelay) string {
				message, from := marked(kind, ask[1], "a.example")
				return x[mailer.DirectionEncrypt].cell(message, from, "b@"+rule.Domain)
			})
		}
	}
	for _, arriving := range []string{"arriving, encrypted", "arriving, in clear"} {
		row(arriving, "any", func(kind string, x map[mailer.Direction]*triggerRelay) string {
			return arrives(t, x[mailer.DirectionDecrypt], kind, arriving)
		})
	}
	text, err := os.ReadFile("../../docs/triggers.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), "\n"+table.String()+"\n") {
		t.Errorf("docs/triggers.md does not have this table, which is what the relay does:\n%s", &table)
	}
}

// arrives says what becomes of arriving mail that would pull a trigger.
func arrives(t *testing.T, x *triggerRelay, kind, how string) string {
	domain := "x.example"
	if how == "arriving, encrypted" {
		domain = "a.example"
	}
	message, from := marked(kind, "both", domain)
	sent, want := message, "in clear"
	if domain == "a.example" {
		sent, want = mailtest.Seal(t, x.r.KM, message, func(o *cipher.EncryptOptions) { o.Suite = cipher.SuiteAES256GCM }), "restored"
	}
	x.hop.Forget()
	x.c.Want("250", x.c.Mail(sent, from, "b@b.example"))
	if got := x.hop.One().Data; !strings.HasSuffix(got, "\r\n"+message) || strings.Contains(got, "decrypt=pass") != (want == "restored") {
		t.Errorf("%s: %s", how, mailtest.Clip(got))
	}
	return want
}
