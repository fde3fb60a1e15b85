package mailer_test

import (
	"strings"
	"testing"

	"github.com/qkdmail/qkdmail/mailer"
	"github.com/qkdmail/qkdmail/mailer/internal/mailtest"
)

// smugglers are ends of data that only some mail systems see, between a line and what
// would then be commands.
func smugglers() []string {
	var all []string
	for _, before := range []string{"\n", "\r", "\r\n", "\r\r\n", "\n\r", "\x00\r\n", "\r\x00\n"} {
		for _, after := range []string{"\n", "\r", "\r\n", "\r\r\n", "\n\r", "\x00\r\n", "\r\x00\n"} {
			if before+after != "\r\n\r\n" { // the true one
				all = append(all, before+"."+after)
			}
		}
	}
	return append(all, "\r\n.\r\n.\n", "\r\n. \r\n", "\r\n.\t\r\n", "\r\n.\r", "\n.\x0b\n")
}

const smuggled = "MAIL FROM:<evil@a.example>\r\nRCPT TO:<victim@b.example>\r\nDATA\r\nSubject: smuggled\r\n\r\nevil\r\n"

// Neither relay splits a message: an unusual one is refused, or delivered as it came, as
// one.
func TestSmuggling(t *testing.T) {
	mailtest.Directions(t, func(t *testing.T, d mailer.Direction) {
		mailtest.NoLeaks(t)
		hop := mailtest.StartHop(t)
		r := mailtest.StartRelay(t, d, hop.Addr())
		for _, s := range smugglers() {
			if strings.Contains(s, "\r\n.\r\n") {
				continue // a true end: what follows are commands
			}
			hop.Forget()
			c := mailtest.Connect(t, r)
			c.Begin("x@x.example", "y@clear.example")
			c.Send("From: x@x.example\r\n\r\nfirst" + s + smuggled + ".\r\n")
			reply := c.Reply()
			if !strings.HasPrefix(reply, "550 5.6.0") && !strings.HasPrefix(reply, "250") {
				t.Errorf("%q: %s", s, reply)
			}
			got := hop.Got()
			if len(got) > 1 || len(got) == 1 && !strings.HasPrefix(reply, "250") {
				t.Errorf("%q made %d messages", s, len(got))
			}
			for _, m := range got {
				if strings.ContainsAny(strings.ReplaceAll(m.Raw, "\r\n", ""), "\r\n\x00") || strings.Contains("\r\n"+m.Raw, "\r\n.\r\n") {
					t.Errorf("%q went out as %q", s, m.Raw)
				}
			}
			// What is after the dot is a command again.
			c.Want("252", c.Cmd("VRFY x"))
			_ = c.Conn.Close()
		}
		if strings.Contains(hop.Commands(), "evil@") {
			t.Error("the smuggled sender was there")
		}
	})
}

// The same inside a message that a peer has encrypted.
func TestSmugglingSealed(t *testing.T) {
	mailtest.NoLeaks(t)
	hop, r, c := mailtest.Start(t, mailer.DirectionDecrypt)
	for _, s := range append(smugglers(), "\r\n.\r\n", "\r\n..\r\n") {
		for _, first := range []string{"From: a@a.example\r\n\r\nfirst", "From: a@a.example\n\nfirst", ""} {
			hop.Forget()
			message := first + s + smuggled
			reply := c.Mail(mailtest.Seal(t, r.KM, message), "a@a.example", "b@b.example")
			got := hop.Got()
			switch {
			case strings.HasPrefix(reply, "250"):
				// All bytes are there, except that LF has become CRLF.
				if len(got) != 1 || !strings.HasSuffix(got[0].Data, strings.ReplaceAll(strings.ReplaceAll(message, "\r\n", "\n"), "\n", "\r\n")) {
					t.Errorf("%q was delivered as %v", message, got)
				}
			case strings.HasPrefix(reply, "550 5.6.0") || first == "" && strings.HasPrefix(reply, "5"):
				if len(got) != 0 {
					t.Errorf("%q was refused and delivered", message)
				}
			default:
				t.Errorf("%q: %s", message, reply)
			}
		}
	}
	if strings.Contains(hop.Commands(), "evil@") {
		t.Error("the smuggled sender was there")
	}
}

// A refusal in the middle of an encrypted message drops the next hop's connection before
// the final dot.
func TestSmugglingSealedLate(t *testing.T) {
	mailtest.NoLeaks(t)
	hop, r, c := mailtest.Start(t, mailer.DirectionDecrypt)
	message := "From: a@a.example\r\n\r\n" + strings.Repeat("much text\r\n", 100_000) + "\n.\n" + smuggled
	c.Want("550 5.6.0", c.Mail(mailtest.Seal(t, r.KM, message), "a@a.example", "b@b.example"))
	hop.None()
	if cut := hop.WasCut(); strings.Contains(cut, "evil") || len(cut) < 100_000 {
		t.Errorf("%d bytes went out", len(cut))
	}
}

// Addresses and parameters can't turn into commands or other parameters.
func TestInjection(t *testing.T) {
	mailtest.Directions(t, func(t *testing.T, d mailer.Direction) {
		mailtest.NoLeaks(t)
		hop := mailtest.StartHop(t)
		r := mailtest.StartRelay(t, d, hop.Addr())
		for _, line := range []string{
			"MAIL FROM:<a@b\rRCPT TO:<evil@x.example>",
			"MAIL FROM:<a@b>\rRCPT TO:<evil@x.example>",
			"MAIL FROM:<a\x00evil@b.example>",
			"MAIL FROM:<a@b> ENVID=evil\x0b",
			"MAIL FROM:<a@b> AUTH=evil+0D+0A",
			"MAIL FROM:<a@evil.example,b>",
			"MAIL FROM:<a@b;evil>",
			"MAIL FROM:<a@b RET=FULL evil>",
			"MAIL FROM:<a@b> EVIL=1",
			"MAIL FROM:<a@b> SIZE=evil",
			"RCPT TO:<a@b> ORCPT=rfc822;evil\x7f",
			"RCPT TO:<a@b> NOTIFY=EVIL",
			"RCPT TO:<a@b\x1bevil>",
			"RCPT TO:<evil@b@>",
			"RCPT TO:<evil>",
			"RCPT TO:<evil@b\"c>",
			"EHLO evil\rMAIL",
			"EHLO",
			"EHLO \x00evil",
			"VRFY\x07 evil",
		} {
			c := mailtest.Connect(t, r)
			if strings.HasPrefix(line, "RCPT") {
				c.Want("250", c.Cmd("MAIL FROM:<a@a.example>"))
			}
			c.Want("5", c.Cmd(line))
			_ = c.Conn.Close()
		}
		// Values that only inform are no reason to refuse mail, and bring no line end to the next hop.
		c := mailtest.Connect(t, r)
		c.Want("250", c.Cmd("MAIL FROM:<a@b> ENVID=+0D+0Aevil"))
		c.Want("250", c.Cmd("RCPT TO:<a@b> ORCPT=rfc822;evil+0D+0A"))
		c.Want("250", c.Cmd("RCPT TO:<a@b> ORCPT=utf-8;evil\\x{D}\\x{A}"))
		c.Want("250", c.Cmd("RSET"))
		if commands := hop.Commands(); strings.Contains(commands, "evil") {
			t.Errorf("the next hop heard\n%s", commands)
		}
		// Quoted local parts stay in their quotes.
		c.Want("250", c.Cmd(`MAIL FROM:<"x@y> RET=FULL ENVID=evil"@a.example>`))
		c.Want("250", c.Cmd(`RCPT TO:<"v@else.example> NOTIFY=NEVER ORCPT=rfc822;evil"@b.example>`))
		c.Want("250", c.Cmd(`RCPT TO:<"q\"uo\\te"@b.example>`))
		c.Want("250", c.Cmd("RSET"))
		commands := strings.ReplaceAll(hop.Commands(), " RET=HDRS", "") // the decrypting relay's own
		for _, want := range []string{
			`MAIL FROM:<"x@y> RET=FULL ENVID=evil"@a.example> BODY=8BITMIME`,
			`RCPT TO:<"v@else.example> NOTIFY=NEVER ORCPT=rfc822;evil"@b.example>`,
			`RCPT TO:<"q\"uo\\te"@b.example>`,
		} {
			if !strings.Contains(commands+"\n", want+"\n") {
				t.Errorf("%s is not in\n%s", want, commands)
			}
			commands = strings.ReplaceAll(commands, want, "")
		}
		if strings.Contains(commands, "evil") {
			t.Errorf("at the next hop:\n%s", commands)
		}
	})
}
