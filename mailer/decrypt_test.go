package mailer_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/mailer"
	"github.com/qkdmail/qkdmail/mailer/internal/mailtest"
	"github.com/qkdmail/qkdmail/mailer/relay/config"
)

// cutReceived takes out what varies above restored mail: the relay's trace field.
func cutReceived(t *testing.T, message string) string {
	t.Helper()
	const begin = "Received: from client.example ([127.0.0.1])\r\n\tby relay.example (qkdmail) with "
	i := strings.Index(message, begin)
	if i < 0 {
		t.Fatalf("no trace field of ours in\n%s", message)
	}
	end := strings.Index(message[i+len(begin):], "\r\n\t")
	end += i + len(begin) + 3
	end += strings.Index(message[end:], "\r\n") + 2
	return message[:i] + "(own Received)" + message[end:]
}

// onTheWay is what relays on the way put on a message.
const onTheWay = "Return-Path: <alice@a.example>\r\n" +
	"Delivered-To: bob@b.example\r\n" +
	"Received: from x by y;\r\n\tTue, 24 Nov 2026 07:00:00 +0000\r\n" +
	"Authentication-Results: y;\r\n\tdkim=pass\r\n" +
	"Qkdmail-Result: evil.example; decrypt=pass\r\n" +
	"X-Spam: no\r\n" +
	"Subject: evil\r\n"

// The bytes that were encrypted come back, below what we say about them.
func TestRestored(t *testing.T) {
	mailtest.NoLeaks(t)
	hop, r, c := mailtest.Start(t, mailer.DirectionDecrypt)
	const result = "Qkdmail-Result: relay.example;\r\n\tdecrypt=pass;\r\n\tsuite=%s;\r\n\tpeer=alpha;\r\n\tkey-id=%s%s\r\n(own Received)"
	crlf := func(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }
	for name, message := range map[string]string{
		"usual":      mailtest.Text,
		"dots":       crlf("From: a@a.example\n\n.\n..\n.a\n\n.\n"),
		"no end":     crlf("From: a@a.example\n\nno line end"),
		"no body":    crlf("From: a@a.example\n"),
		"no header":  crlf("\nbody\n"),
		"trailing":   crlf("From: a@a.example\nX: 1 \t\n \t\n\n \n\t\n"),
		"8bit":       crlf("From: a@a.example\nSubject: \xe4\xf6\xff\n\n\x80\x81\xfe\n"),
		"long lines": crlf("From: a@a.example\n\n" + strings.Repeat("x", 5000) + "\n"),
		"odd fields": crlf("From : a@a.example\nnonsense\n: x\nFROM: b@a.example\n\nbody\n"),
		"results":    crlf("Qkdmail-Result: mine; x\nReceived: a\nFrom: a@a.example\n\nQkdmail-Result: x\n"),
		"long":       "From: a@a.example\r\n\r\n" + strings.Repeat("0123456789\r\n", 50_000),
	} {
		for _, suite := range []cipher.Suite{cipher.SuiteAES256GCM, cipher.SuiteOTP} {
			t.Run(name+" "+string(suite), func(t *testing.T) {
				hop.Forget()
				sealed := mailtest.Seal(t, r.KM, message, func(o *cipher.EncryptOptions) { o.Suite = suite })
				id := strings.TrimSpace(strings.TrimPrefix(strings.SplitN(sealed, "\r\n", 2)[0], "Qkdmail-Key-ID:"))
				c.Want("250", c.Mail(onTheWay+sealed, "alice@a.example", "bob@b.example"))
				m := hop.One()
				end := ""
				if !strings.HasSuffix(message, "\r\n") {
					end = "\r\n" // SMTP has no other line end
				}
				got := cutReceived(t, m.Data)
				want := fmt.Sprintf(result, suite, id, "") +
					"Return-Path: <alice@a.example>\r\nQkdmail-Outer-Delivered-To: bob@b.example\r\nReceived: from x by y;\r\n\tTue, 24 Nov 2026 07:00:00 +0000\r\n" +
					"Qkdmail-Outer-Authentication-Results: y;\r\n\tdkim=pass\r\n" + message + end
				// Odd fields that the outer header could not copy are flagged.
				got = strings.Replace(got, ";\r\n\touter-differs=from", "", 1)
				if got != want {
					t.Errorf("\n%q\nwant\n%q", mailtest.Clip(got), mailtest.Clip(want))
				}
				if m.Mail != "MAIL FROM:<alice@a.example> BODY=8BITMIME RET=HDRS" || fmt.Sprint(m.Rcpts) != "[RCPT TO:<bob@b.example>]" {
					t.Error(m.Mail, m.Rcpts)
				}
			})
		}
	}
}

// Text with LF goes out with CRLF, and the result says so.
func TestRestoredLF(t *testing.T) {
	mailtest.NoLeaks(t)
	hop, r, c := mailtest.Start(t, mailer.DirectionDecrypt)
	c.Want("250", c.Mail(mailtest.Seal(t, r.KM, "From: a@a.example\nTo: b@b.example\n\n.\nbody\n"), "a@a.example", "b@b.example"))
	got := hop.One().Data
	if !strings.Contains(got, ";\r\n\tline-ends=lf\r\n") || !strings.HasSuffix(got, "\r\nFrom: a@a.example\r\nTo: b@b.example\r\n\r\n.\r\nbody\r\n") {
		t.Errorf("%q", got)
	}
}

// What is kept of the encrypted message is ASCII, even if the client says SMTPUTF8: the
// next hop would require it of mailboxes, and bounce the message if they do not have it.
func TestTraceIsASCII(t *testing.T) {
	mailtest.NoLeaks(t)
	hop, r, c := mailtest.Start(t, mailer.DirectionDecrypt)
	c.Want("250", c.Cmd("MAIL FROM:<> SMTPUTF8"))
	c.Want("250", c.Cmd("RCPT TO:<"+bob+">"))
	c.Want("354", c.Cmd("DATA"))
	c.Send(mailtest.Stuffed("Received: from \u00fc by \xff\x01y;\r\n\tx\r\nAuthentication-Results: \u00fc\r\n" + mailtest.Seal(t, r.KM, mailtest.Text)))
	c.Want("250", c.Reply())
	const want = "(own Received)Received: from ? by ??y;\r\n\tx\r\nQkdmail-Outer-Authentication-Results: ?\r\n" + mailtest.Text
	got := hop.One().Data
	got = strings.Replace(got, "with UTF8SMTP", "with ESMTP", 1)
	if got = cutReceived(t, got); !strings.HasSuffix(got, want) {
		t.Errorf("\n%q, want at the end\n%q", got, want)
	}
}

// Without the field that marks where our header begins, nothing is kept.
func TestRestoredWithoutKeyID(t *testing.T) {
	mailtest.NoLeaks(t)
	hop, r, c := mailtest.Start(t, mailer.DirectionDecrypt)
	sealed := mailtest.Seal(t, r.KM, mailtest.Text)
	_, sealed, _ = strings.Cut(sealed, "\r\n")
	c.Want("250", c.Mail(onTheWay+sealed, "alice@a.example", "bob@b.example"))
	if got := cutReceived(t, hop.One().Data); !strings.HasSuffix(got, "(own Received)"+mailtest.Text) {
		t.Errorf("%q", got)
	}
}

// What was shown outside but is different inside is flagged.
func TestOuterDiffers(t *testing.T) {
	mailtest.NoLeaks(t)
	hop, r, c := mailtest.Start(t, mailer.DirectionDecrypt)
	for _, tt := range []struct{ old, changed, flag string }{
		{"", "", ""},
		{"From: ", "From: <other@a.example>, ", "from"},
		{"alice@a.example", "boss@a.example", "from"},
		{"From: \"Alice\"", "From: \"Boss\"", ""}, // names are not compared
		{"To: bob@", "To: eve@", "to"},
		{"07:00:00", "08:00:00", "date"},
		{"<1@a.example>", "<2@a.example>", "message-id"},
		{"To: bob@", "Cc: bob@", "to"},
	} {
		hop.Forget()
		sealed := mailtest.Seal(t, r.KM, mailtest.Text)
		altered := strings.Replace(sealed, tt.old, tt.changed, 1)
		if tt.old != "" && altered == sealed {
			t.Errorf("%q is not outside:\n%s", tt.old, mailtest.Clip(sealed))
			continue
		}
		c.Want("250", c.Mail(altered, "alice@a.example", "bob@b.example"))
		header, _, _ := strings.Cut(hop.One().Data, "Received:")
		_, flags, _ := strings.Cut(header, "outer-differs=")
		if got := strings.TrimSpace(flags); got != tt.flag {
			t.Errorf("%q to %q: %q, want %q", tt.old, tt.changed, got, tt.flag)
		}
		if !strings.HasSuffix(hop.One().Data, mailtest.Text) {
			t.Error("the message was altered")
		}
	}
}

// A date that is not as in RFC 5322 is copied outside as the same instant, and compared
// by instant.
func TestOuterDateDiffers(t *testing.T) {
	mailtest.NoLeaks(t)
	hop, r, c := mailtest.Start(t, mailer.DirectionDecrypt)
	for _, tt := range []struct{ date, old, changed, flag string }{
		{"Tue, 24 Nov 2026 07:00:00 EST", "", "", ""},
		{"24 nov 26 07:00 (zone unknown)", "", "", ""},
		{"Tue Nov 24 07:00:00 CET 2026", "07:00:00 -0000", "07:00:00 +0000", ""}, // the same instant
		{"Tue Nov 24 07:00:00 CET 2026", "07:00:00 -0000", "07:00:00 +0100", "date"},
		{"Tue, 24 Nov 2026 07:00:00 EST", "-0500", "-0400", "date"},
		{"today", "", "", ""}, // nothing to compare with
		{"31 Dec 9999 23:59:59 -0100", "", "", ""},
	} {
		hop.Forget()
		message := strings.Replace(mailtest.Text, "Date: Tue, 24 Nov 2026 07:00:00 +0000", "Date: "+tt.date, 1)
		sealed := mailtest.Seal(t, r.KM, message)
		altered := strings.Replace(sealed, tt.old, tt.changed, 1)
		if tt.old != "" && altered == sealed {
			t.Errorf("%q: %q is not outside:\n%s", tt.date, tt.old, mailtest.Clip(sealed))
			continue
		}
		c.Want("250", c.Mail(altered, "alice@a.example", "bob@b.example"))
		header, _, _ := strings.Cut(hop.One().Data, "Received:")
		_, flags, _ := strings.Cut(header, "outer-differs=")
		if got := strings.TrimSpace(flags); got != tt.flag {
			t.Errorf("date %q, outside %q to %q: flags %q, want %q", tt.date, tt.old, tt.changed, got, tt.flag)
		}
	}
}

// Plain mail passes as it is, without result fields.
func TestPlainMail(t *testing.T) {
	mailtest.NoLeaks(t)
	hop, _, c := mailtest.Start(t, mailer.DirectionDecrypt)
	for in, want := range map[string]string{
		"From: x@x.example\r\nSubject: s\r\n\r\nbody\r\n.dot\r\n":                          "From: x@x.example\r\nSubject: s\r\n\r\nbody\r\n.dot\r\n",
		"Qkdmail-Result: evil\r\nFrom: x@x.example\r\n\r\nbody\r\n":                        "From: x@x.example\r\n\r\nbody\r\n",
		"From: x@x.example\r\nqkdmail-result :evil\r\n more\r\nX: 1\r\n\r\nbody\r\n":       "From: x@x.example\r\nX: 1\r\n\r\nbody\r\n",
		"From: x@x.example\r\nnonsense\r\nQkdmail-Result: evil\r\n\r\nbody\r\n":            "From: x@x.example\r\nnonsense\r\n\r\nbody\r\n",
		"From: x@x.example\r\n\r\nQkdmail-Result: quoted\r\n":                              "From: x@x.example\r\n\r\nQkdmail-Result: quoted\r\n",
		"From: x@x.example\r\nQKDMAIL-RESULT:evil\r\nQkdmail-Result: evil\r\n\r\nbody\r\n": "From: x@x.example\r\n\r\nbody\r\n",
		"Authentication-Results: kept\r\nFrom: x@x.example\r\n\r\nbody\r\n":                "Authentication-Results: kept\r\nFrom: x@x.example\r\n\r\nbody\r\n",
	} {
		hop.Forget()
		c.Want("250", c.Mail(in, "x@x.example", "b@b.example"))
		if got := cutReceived(t, hop.One().Data); got != "(own Received)"+want {
			t.Errorf("%q became %q", in, got)
		}
	}
}

// A bounce that quotes a message of ours is an ordinary message.
func TestBounceWithOurs(t *testing.T) {
	mailtest.NoLeaks(t)
	hop, r, c := mailtest.Start(t, mailer.DirectionDecrypt)
	bounce := "From: MAILER-DAEMON@x.example\r\nMIME-Version: 1.0\r\nContent-Type: multipart/report; report-type=delivery-status; boundary=bbb\r\n\r\n" +
		"--bbb\r\n\r\nfailed\r\n--bbb\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; x\r\n\r\n--bbb\r\nContent-Type: message/rfc822\r\n\r\n" +
		mailtest.Seal(t, r.KM, mailtest.Text) + "\r\n--bbb--\r\n"
	c.Want("250", c.Mail(bounce, "", "bob@b.example"))
	if got := cutReceived(t, hop.One().Data); got != "(own Received)"+bounce {
		t.Errorf("%q", mailtest.Clip(got))
	}
	if _, asked := r.KM.Count(); asked != 0 {
		t.Error("a key was asked for")
	}
}

// Who may send what to the decrypt relay.
func TestInboundPolicy(t *testing.T) {
	mailtest.NoLeaks(t)
	hop := mailtest.StartHop(t)
	for _, tt := range []struct {
		name, from, header string
		accept             bool // null_sender.inbound = "accept"
		want               string
	}{
		{"stranger", "x@x.example", "x@x.example", false, "250"},
		{"peer's From", "x@x.example", "a@a.example", false, "550 5.7.1"},
		{"peer's envelope", "a@a.example", "x@x.example", false, "550 5.7.1"},
		{"both", "a@a.example", "a@a.example", false, "550 5.7.1"},
		{"other case", "x@x.example", "a@A.Example.", false, "550 5.7.1"},
		{"second From", "x@x.example", "x@x.example\r\nFrom: a@a.example", false, "550 5.7.1"},
		{"among several", "x@x.example", "x@x.example, a@a.example", false, "550 5.7.1"},
		{"broken From", "x@x.example", "\"a <a@a.example>", false, "550 5.7.1"},
		{"folded From", "x@x.example", "\r\n Alice\r\n\t<a@a.example>", false, "550 5.7.1"},
		{"subdomain is another", "x@x.example", "a@sub.a.example", false, "250"},
		{"optional peer", "c@c.example", "c@c.example", false, "250"},
		{"report", "", "x@x.example", false, "250"},
		{"report as a peer's user", "", "a@a.example", false, "550 5.7.1"},
		{"report as a peer's user, accepted", "", "a@a.example", true, "250"},
		{"no report", "a@a.example", "a@a.example", true, "550 5.7.1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			hop.Forget()
			r := mailtest.StartRelay(t, mailer.DirectionDecrypt, hop.Addr(), func(c *config.Config) {
				c.Peers[1].Inbound = "optional"
				if tt.accept {
					c.NullSender.Inbound = "accept"
				}
			})
			c := mailtest.Connect(t, r)
			c.Want(tt.want, c.Mail("From: "+tt.header+"\r\n\r\nbody\r\n", tt.from, "b@b.example"))
			if got := len(hop.Got()); (got == 1) != (tt.want == "250") {
				t.Errorf("%d messages", got)
			}
		})
	}
}

// Messages in our format that are not accepted, and why.
func TestRefusedSealed(t *testing.T) {
	mailtest.NoLeaks(t)
	hop := mailtest.StartHop(t)
	r := mailtest.StartRelay(t, mailer.DirectionDecrypt, hop.Addr(), func(c *config.Config) { c.Peers[1].Suites = []string{"otp"} })
	option := func(f func(*cipher.EncryptOptions)) string { return mailtest.Seal(t, r.KM, mailtest.Text, f) }
	good := mailtest.Seal(t, r.KM, mailtest.Text)
	body := strings.LastIndex(good, "base64\r\n\r\n") + 200
	for _, tt := range []struct{ name, message, want, reason string }{
		{"too old", option(func(o *cipher.EncryptOptions) { o.Time = time.Now().Add(-31 * 24 * time.Hour) }), "550 5.7.1", "too old"},
		{"old", option(func(o *cipher.EncryptOptions) { o.Time = time.Now().Add(-29 * 24 * time.Hour) }), "250", ""},
		{"from the future", option(func(o *cipher.EncryptOptions) { o.Time = time.Now().Add(25 * time.Hour) }), "451 4.7.1", "from the future"},
		{"for another SAE", option(func(o *cipher.EncryptOptions) { o.Peer = "SAE_X" }), "550 5.7.1", "sae"},
		{"for none", option(func(o *cipher.EncryptOptions) { o.Peer = "" }), "550 5.7.1", "sae"},
		{"from a stranger", option(func(o *cipher.EncryptOptions) { o.SAE = "SAE_X" }), "550 5.7.1", "sae"},
		{"from nobody", option(func(o *cipher.EncryptOptions) { o.SAE = "" }), "550 5.7.1", "sae"},
		{"our own, reflected", option(func(o *cipher.EncryptOptions) { o.SAE, o.Peer = "SAE_B", "SAE_B" }), "550 5.7.1", "sae"},
		{"our own to a peer, reflected", option(func(o *cipher.EncryptOptions) { o.SAE, o.Peer = "SAE_B", "SAE_A" }), "550 5.7.1", "sae"},
		{"a path as SAE", option(func(o *cipher.EncryptOptions) { o.SAE = "../../x" }), "550 5.7.1", "sae"},
		{"suite not agreed", option(func(o *cipher.EncryptOptions) { o.SAE = "SAE_C" }), "550 5.7.1", "suite not agreed"},
		{"a peer for another's domain", option(func(o *cipher.EncryptOptions) { o.SAE, o.Suite = "SAE_C", cipher.SuiteOTP }), "550 5.7.1", "another peer's domain"},
		{"cut short", good[:len(good)-301] + "\r\n", "550 5.7.7", "damaged"},
		{"flipped", good[:body] + flip(good[body]) + good[body+1:], "550 5.7.7", "authentication"},
		{"header without payload", good[:strings.Index(good, "\r\n")] + "\r\nFrom: a@a.example\r\n\r\nfiltered\r\n", "550 5.7.7", "damaged"},
		{"other version", strings.Replace(good, "\r\nVersion: 1\r\n", "\r\nVersion: 2\r\n", 1), "550 5.7.5", "version"},
		{"other time", alterTime(good), "550 5.7.7", "authentication"},
		{"unknown suite", strings.Replace(good, "Suite: AES-256-GCM", "Suite: ROT13", 1), "550 5.7.", ""},
		{"other key ID in the header", "Qkdmail-Key-ID: other" + good[strings.Index(good, "\r\n"):], "550 5.7.7", "damaged"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			hop.Forget()
			before := len(r.Log.String())
			c := mailtest.Connect(t, r)
			c.Want(tt.want, c.Mail(tt.message, "alice@a.example", "bob@b.example"))
			if tt.want == "250" {
				hop.One()
				return
			}
			hop.None()
			if log := r.Log.String()[before:]; !strings.Contains(log, "msg=refused") || tt.reason != "" && !strings.Contains(log, tt.reason) {
				t.Errorf("reason %q is not in the log: %s", tt.reason, log)
			}
		})
	}
}

// flip returns another character of base64.
func flip(c byte) string {
	if c == 'A' {
		return "B"
	}
	return "A"
}

func alterTime(message string) string {
	i := strings.Index(message, "\r\nTime: ") + len("\r\nTime: 176")
	return message[:i] + string(rune('0'+(message[i]-'0'+9)%10)) + message[i+1:]
}

// From and MAIL FROM must both be the peer's, if they belong to any peer.
func TestSenderOfPeer(t *testing.T) {
	mailtest.NoLeaks(t)
	hop := mailtest.StartHop(t)
	r := mailtest.StartRelay(t, mailer.DirectionDecrypt, hop.Addr())
	for _, tt := range []struct{ from, header, sae, want string }{
		{"a@a.example", "a@a.example", "SAE_A", "250"},
		{"a@x.example", "a@x.example", "SAE_A", "250"}, // no peer's
		{"", "a@a.example", "SAE_A", "250"},
		{"c@c.example", "a@a.example", "SAE_A", "550 5.7.1"},
		{"a@a.example", "c@c.example", "SAE_A", "550 5.7.1"},
		{"a@a.example", "a@a.example, c@c.example", "SAE_A", "550 5.7.1"},
		{"a@a.example", "a@a.example\r\nfrom: c@c.example", "SAE_A", "550 5.7.1"},
		{"a@a.example", "a@a.example", "SAE_C", "550 5.7.1"},
	} {
		hop.Forget()
		c := mailtest.Connect(t, r)
		sealed := mailtest.Seal(t, r.KM, "From: "+tt.header+"\r\n\r\nbody\r\n", func(o *cipher.EncryptOptions) { o.SAE = tt.sae })
		c.Want(tt.want, c.Mail(sealed, tt.from, "b@b.example"))
		if got := len(hop.Got()); (got == 1) != (tt.want == "250") {
			t.Errorf("%+v: %d messages", tt, got)
		}
	}
}

// A key that is not there yet is waited for, but the key manager is not asked endlessly.
func TestKeyNotFound(t *testing.T) {
	mailtest.NoLeaks(t)
	hop := mailtest.StartHop(t)
	r := mailtest.StartRelay(t, mailer.DirectionDecrypt, hop.Addr())
	sealed := mailtest.Seal(t, r.KM, mailtest.Text)
	r.KM.Remove(r.KM.Last().ID())
	c := mailtest.Connect(t, r)
	for range 3 {
		c.Want("451 4.7.5", c.Mail(sealed, "alice@a.example", "bob@b.example"))
	}
	if _, asked := r.KM.Count(); asked != 1 {
		t.Errorf("the key manager was asked %d times", asked)
	}
	hop.None()
	// Another message is not held up.
	c.Want("250", c.Mail(mailtest.Seal(t, r.KM, mailtest.Text), "alice@a.example", "bob@b.example"))
}

// Each frame of a pad is verified before the keys of the next are asked for.
func TestFramesOneByOne(t *testing.T) {
	mailtest.NoLeaks(t)
	hop := mailtest.StartHop(t)
	r := mailtest.StartRelay(t, mailer.DirectionDecrypt, hop.Addr())
	sealed := mailtest.Seal(t, r.KM, mailtest.Text+strings.Repeat("padded\r\n", 50_000), func(o *cipher.EncryptOptions) { o.Suite = cipher.SuiteOTP })
	given, _ := r.KM.Count()
	r.KM.Spoil = func(_ string, key []byte) []byte { key[0] ^= 1; return key }
	c := mailtest.Connect(t, r)
	c.Want("550 5.7.7", c.Mail(sealed, "alice@a.example", "bob@b.example"))
	if _, asked := r.KM.Count(); asked == 0 || asked > given/2 {
		t.Errorf("%d of %d keys were asked for", asked, given)
	}
	r.KM.Spoil = nil
	// A late frame that fails: what went out before is never completed.
	n := 0
	r.KM.OnFind = func(context.Context, []string) error {
		if n++; n == 3 {
			return kmclient.ErrUnavailable
		}
		return nil
	}
	hop.Forget()
	c.Want("451 4.7.5", c.Mail(sealed, "alice@a.example", "bob@b.example"))
	hop.None()
	hop.WasCut()
}

// No one outside can write the fields in which the relay reports.
func TestForgedResults(t *testing.T) {
	mailtest.NoLeaks(t)
	hop, _, c := mailtest.Start(t, mailer.DirectionDecrypt)
	for _, field := range []string{
		"Qkdmail-Result: mx.b.example; decrypt=pass; peer=alpha", "qkdmail-result : x", "Qkdmail-Outer-Authentication-Results: mx.b.example;\r\n\tdkim=pass header.d=bank.example",
		"QKDMAIL-OUTER-AUTHENTICATION-RESULTS\t: x", "Qkdmail-Result:\r\n x",
	} {
		c.Want("250", c.Mail("X-Before: 1\r\n"+field+"\r\nFrom: x@bank.example\r\n\r\nhi\r\n", "x@x.example", "bob@b.example"))
		if got := hop.One().Data; strings.Contains(strings.ToLower(got), "qkdmail-") || !strings.HasSuffix(got, "X-Before: 1\r\nFrom: x@bank.example\r\n\r\nhi\r\n") {
			t.Errorf("%q came as %q", field, got)
		}
		hop.Forget()
	}
}

// However many fields come before it, the From of a message is checked, in plain mail and
// inside a peer's encrypted message.
func TestFromBehindManyFields(t *testing.T) {
	mailtest.NoLeaks(t)
	many := strings.Repeat("a:\r\n", 50_000)
	hop, r, c := mailtest.Start(t, mailer.DirectionDecrypt)
	c.Want("550 5.7.1", c.Mail(many+mailtest.Text, "x@x.example", "bob@b.example"))
	c.Want("550 5.7.1", c.Mail(mailtest.Seal(t, r.KM, many+strings.Replace(mailtest.Text, "a.example", "c.example", 1)), "alice@a.example", "bob@b.example"))
	hop.None()
	c.Want("250", c.Mail(mailtest.Seal(t, r.KM, many+mailtest.Text), "alice@a.example", "bob@b.example"))
	hop.One()
}
