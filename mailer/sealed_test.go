package mailer_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/mailer"
	"github.com/qkdmail/qkdmail/mailer/internal/mailtest"
	"github.com/qkdmail/qkdmail/mailer/relay/config"
)

// A message is sealed for the recipients of its group that the next hop has accepted, and
// for no one else in the transaction.
func TestSealedForItsGroup(t *testing.T) {
	mailtest.NoLeaks(t)
	hop, r, c := mailtest.Start(t, mailer.DirectionEncrypt, mailtest.OverLMTP)
	mailtest.Answering("RCPT TO:<unknown@", "550 5.1.1 no")(hop)
	c.Want("250", c.Cmd("MAIL FROM:<alice@a.example>"))
	for _, rcpt := range []string{"bob@b.example", "unknown@b.example", "pad@pad.example", "carol@b.example", "open@clear.example"} {
		c.Cmd("RCPT TO:<" + rcpt + ">")
	}
	c.Want("354", c.Cmd("DATA"))
	c.Send(mailtest.Stuffed(mailtest.Text))
	for range 4 {
		c.Want("250", c.Reply())
	}
	for _, m := range hop.Got() {
		if slices.Contains(m.Rcpts, "RCPT TO:<open@clear.example>") {
			continue
		}
		list, err := mailtest.Decrypt(t, r.KM, m.Data).Recipients()
		if err != nil || len(list) != len(m.Rcpts) {
			t.Errorf("%v: sealed for %d recipients, %v", m.Rcpts, len(list), err)
		}
		for _, rcpt := range m.Rcpts {
			if !list.Include(strings.TrimSuffix(strings.TrimPrefix(rcpt, "RCPT TO:<"), ">")) {
				t.Errorf("%v: not sealed for %s", m.Rcpts, rcpt)
			}
		}
	}
}

// twoRelays are an encrypting and a decrypting relay, with a client each.
type twoRelays struct {
	*testing.T
	between, behind *mailtest.Hop
	out, in         *mailtest.Client
}

func startTwo(t *testing.T, changeOut, changeIn func(*config.Config)) *twoRelays {
	km := mailtest.NewKM()
	k := &twoRelays{T: t, between: mailtest.StartHop(t), behind: mailtest.StartHop(t)}
	k.out = mailtest.Connect(t, mailtest.StartRelayWith(t, km, mailer.DirectionEncrypt, k.between.Addr(), changeOut))
	k.in = mailtest.Connect(t, mailtest.StartRelayWith(t, km, mailer.DirectionDecrypt, k.behind.Addr(), changeIn))
	return k
}

func unchanged(*config.Config) {}

// mail sends a message to one recipient, and the encrypted message to another. It returns
// the answer to the latter.
func (k *twoRelays) mail(from, first, second string) string {
	k.Helper()
	k.between.Forget()
	k.behind.Forget()
	send := func(c *mailtest.Client, message, rcpt string) string {
		utf8 := ""
		if strings.ContainsFunc(rcpt, func(r rune) bool { return r > '~' }) {
			utf8 = " SMTPUTF8"
		}
		c.Want("250", c.Cmd("MAIL FROM:<"+from+">"+utf8))
		c.Want("250", c.Cmd("RCPT TO:"+rcpt))
		c.Want("354", c.Cmd("DATA"))
		c.Send(mailtest.Stuffed(message))
		return c.Reply()
	}
	k.out.Want("250", send(k.out, mailtest.Text, first))
	return send(k.in, k.between.One().Data, second)
}

// An address is the same in all of its spellings, and different from any other address,
// even one that has something like it inside quotes.
func TestSpellingsOfRecipients(t *testing.T) {
	mailtest.NoLeaks(t)
	k := startTwo(t, unchanged, unchanged)
	for _, tt := range []struct {
		first, second string
		same          bool
	}{
		{"<bob@b.example>", "<bob@b.example>", true},
		{"<Bob@b.example>", "<bOB@B.EXAMPLE>", true},
		{"<bob@b.example>", `<"bob"@b.example>`, true},
		{`<"b\o\b"@b.example>`, "<bob@b.example>", true},
		{"<bob@b.example>", "<@relay.example,@x.example:bob@b.example>", true},
		{`<"bob smith"@b.example>`, `<"Bob\ Smith"@b.example>`, true},
		{"<bob@bücher.example>", "<bob@xn--bcher-kva.example>", true},
		{"<bob@xn--bcher-kva.example>", "<bob@BÜCHER.example>", true},
		{"<bücher@b.example>", "<bücher@b.example>", true},
		{"<bob+lists@b.example>", "<bob+lists@b.example>", true},
		{"<bob+lists@b.example>", "<bob@b.example>", false},
		{"<bob@b.example>", "<bob@c.example>", false},
		{"<bob@b.example>", "<bob@x.b.example>", false},
		{"<bob@b.example>", `<"\"bob\""@b.example>`, false},
		{"<bob@b.example>", `<"@x.example:bob"@b.example>`, false},
		{"<bob@b.example>", `<"bob@b.example"@evil.example>`, false},
		{"<bob@b.example>", `<"bob@b.example>"@evil.example>`, false},
		{"<bücher@b.example>", "<BÜcher@b.example>", false}, // only its server knows what a local part means, except that A to Z are a to z
		{"<postmaster>", "<Postmaster>", true},
		{"<postmaster>", "<postmaster@b.example>", false},
	} {
		want := map[bool]string{true: "250", false: "550 5.7.1"}[tt.same]
		if reply := k.mail("alice@a.example", tt.first, tt.second); !strings.HasPrefix(reply, want) || len(k.behind.Got()) > 0 != tt.same {
			t.Errorf("sealed for %s and sent to %s: %s, want %s", tt.first, tt.second, reply, want)
		}
	}
}

// If aliases are expanded before decryption, anyone may be given a message. A report has
// a recipient like any other mail.
func TestAnyRecipientAndReports(t *testing.T) {
	mailtest.NoLeaks(t)
	anyone := func(c *config.Config) { c.Peers[0].Recipients = "any" }
	for name, tt := range map[string]struct {
		change func(*config.Config)
		want   string // for anyone who is not a recipient
	}{"sealed": {unchanged, "550 5.7.1"}, "any": {anyone, "250"}} {
		k := startTwo(t, unchanged, tt.change)
		for _, from := range []string{"alice@a.example", ""} {
			if reply := k.mail(from, "<team@b.example>", "<team@b.example>"); !strings.HasPrefix(reply, "250") {
				t.Errorf("%s, from %q: %s", name, from, reply)
			}
			if reply := k.mail(from, "<team@b.example>", "<bob@b.example>"); !strings.HasPrefix(reply, tt.want) {
				t.Errorf("%s, from %q, with an alias: %s, want %s", name, from, reply, tt.want)
			}
		}
	}
	// The other peer's setting does not matter.
	k := startTwo(t, unchanged, func(c *config.Config) { c.Peers[1].Recipients = "any" })
	k.in.Want("550 5.7.1", k.mail("alice@a.example", "<team@b.example>", "<bob@b.example>"))
}

// Whoever has a copy of a message sends it to its recipient with their own address as the
// envelope sender, so that a report of its delivery brings them the text.
func TestReversePath(t *testing.T) {
	mailtest.NoLeaks(t)
	anyone := func(c *config.Config) { c.Peers[0].Recipients = "any" }
	noDomains := func(c *config.Config) { c.Peers[0].Domains = nil }
	for _, tt := range []struct {
		from, header string
		change       func(*config.Config)
		taken        bool
	}{
		{"alice@a.example", "alice@a.example", unchanged, true},
		{"bounces@a.example", "someone@x.example", unchanged, true}, // forwarded, with SRS
		{"", "alice@a.example", unchanged, true},
		{"someone@x.example", "someone@x.example", unchanged, true}, // forwarded without it
		{"b1@bounces.x.example", "news@x.example", unchanged, true},
		{"b1@x.example", "news@mail.x.example", unchanged, true},
		{"evil@evil.example", "alice@a.example", unchanged, false},
		{"evil@evila.example", "alice@a.example", unchanged, false},
		{"evil@evil.example", "someone@x.example", unchanged, false},
		{"evil@co.uk", "someone@x.co.uk", unchanged, false},
		{"evil@y.co.uk", "someone@x.co.uk", unchanged, false},
		{"b1@bounces.x.co.uk", "news@mail.x.co.uk", unchanged, true},
		{"evil@com", "someone@x.com", unchanged, false},
		{"evil@gmail.com", "\"evil@gmail.com (via list)\" <alice@x.example>", unchanged, false},
		{"evil@gmail.com", "alice@x.example (evil@gmail.com)", unchanged, false},
		{"evil@[192.0.2.1]", "alice@a.example", unchanged, false},
		{"evil@evil.example", "alice@a.example", anyone, true},
		{"evil@evil.example", "alice@a.example", noDomains, true}, // no one knows whose it may be
	} {
		hop, r, c := mailtest.Start(t, mailer.DirectionDecrypt, tt.change)
		message := strings.Replace(mailtest.Text, "alice@a.example", tt.header, 1)
		want := map[bool]string{true: "250", false: "550 5.7.1 The envelope sender"}[tt.taken]
		c.Want(want, c.Mail(mailtest.Seal(t, r.KM, message), tt.from, bob))
		if got := len(hop.Got()) > 0; got != tt.taken {
			t.Errorf("From %s with the envelope sender <%s>: handed over %v, want %v", tt.header, tt.from, got, tt.taken)
		}
	}
}

// A message is sealed for 4,096 recipients. With more recipients there are several
// messages, each under a key of its own; over SMTP, which has one answer, the client
// sends the message again for the others.
func TestManyRecipients(t *testing.T) {
	mailtest.NoLeaks(t)
	const more = cipher.MaxRecipients + 5
	many := func(c *config.Config) { c.Limits.Recipients = 10_000 }
	hop, r, c := mailtest.Start(t, mailer.DirectionEncrypt, mailtest.OverLMTP, many)
	c.Want("250", c.Cmd("MAIL FROM:<alice@a.example>"))
	for _, domain := range []string{"b.example", "clear.example"} { // in clear there is no list
		for i := range more {
			c.Send(fmt.Sprintf("RCPT TO:<user%d@%s>\r\n", i, domain))
		}
		for range more {
			c.Want("250", c.Reply())
		}
	}
	c.Want("354", c.Cmd("DATA"))
	c.Send(mailtest.Stuffed(mailtest.Text))
	for range 2 * more {
		c.Want("250", c.Reply())
	}
	var sizes []int
	for _, m := range hop.Got() {
		sizes = append(sizes, len(m.Rcpts))
		if strings.Contains(m.Rcpts[0], "clear") {
			continue
		}
		list, err := mailtest.Decrypt(t, r.KM, m.Data).Recipients()
		if err != nil || len(list) != len(m.Rcpts) || !list.Include(strings.Trim(m.Rcpts[0], "RCPTO: <>")) {
			t.Errorf("a message with %d recipients is sealed for %d, %v", len(m.Rcpts), len(list), err)
		}
	}
	slices.Sort(sizes)
	if given, _ := r.KM.Count(); given != 2 || !slices.Equal(sizes, []int{more - cipher.MaxRecipients, cipher.MaxRecipients, more}) {
		t.Errorf("%d keys, and messages to %v recipients", given, sizes)
	}

	_, _, c = mailtest.Start(t, mailer.DirectionEncrypt, many)
	c.Want("250", c.Cmd("MAIL FROM:<alice@a.example>"))
	for i := range cipher.MaxRecipients {
		c.Send(fmt.Sprintf("RCPT TO:<user%d@b.example>\r\n", i))
	}
	for range cipher.MaxRecipients {
		c.Want("250", c.Reply())
	}
	c.Want("452 4.5.3", c.Cmd("RCPT TO:<late@b.example>"))
	c.Want("354", c.Cmd("DATA"))
	c.Send(mailtest.Stuffed(mailtest.Text))
	c.Want("250", c.Reply())
}

// A recipient list counts towards the memory of all messages under way.
func TestMemoryOfRecipients(t *testing.T) {
	mailtest.NoLeaks(t)
	_, r, c := mailtest.Start(t, mailer.DirectionDecrypt, func(c *config.Config) { c.Limits.Memory = mailer.MessageMemory + 32<<10 })
	for n, want := range map[int]string{100: "250", cipher.MaxRecipients: "451 4.3.2"} {
		sealed := sealedTo(t, r, nil, cipher.SuiteAES256GCM, slices.Repeat([]string{bob}, n)...)
		c.Want(want, c.Mail(sealed, "alice@a.example", bob))
	}
}

// What this site has encrypted without X-Wing does not pass as encrypted to a peer with
// an X-Wing key: everything must be encrypted for that key.
func TestEncryptedWithoutXWing(t *testing.T) {
	mailtest.NoLeaks(t)
	key := mailtest.NewHybridKey(t)
	hop, r, c := mailtest.Start(t, mailer.DirectionEncrypt, key.AsPeers)
	for _, suite := range cipher.Suites() {
		hop.Forget()
		sealed := sealedTo(t, r, key, suite, bob)
		c.Want("250", c.Mail(sealed, "alice@a.example", bob))
		opened := mailtest.Decrypt(t, r.KM, hop.One().Data, key)
		var inside strings.Builder
		if _, err := opened.WriteTo(&inside); err != nil || !opened.Info().Suite.Hybrid() {
			t.Errorf("%s passes under %s, %v", suite, opened.Info().Suite, err)
		}
		if passed := inside.String() == mailtest.Text; passed != suite.Hybrid() || !passed && inside.String() != sealed {
			t.Errorf("%s passes: %v", suite, passed)
		}
	}
}

// For want of keys an opportunistic rule takes the cheaper hybrid suite, and as a last
// resort sends in clear, as it says, but no rule takes a suite without X-Wing.
func TestHybridWithoutKeys(t *testing.T) {
	mailtest.NoLeaks(t)
	key := mailtest.NewHybridKey(t)
	hop, r, c := mailtest.Start(t, mailer.DirectionEncrypt, key.AsPeers, func(c *config.Config) {
		c.Rules = append(c.Rules, config.Rule{Domain: "auto2.example", Peer: "bravo", Encrypt: mailer.Opportunistic, Suite: "auto"})
	})
	for _, tt := range []struct {
		rcpt   string
		size   int
		refuse int // number of the first requests for keys that are refused
		asks   int // requests for keys
		suite  cipher.Suite
		want   string
	}{
		{"bob@b.example", 0, 9, 1, "", "451 4.7.5"},
		{"bob@auto.example", 0, 9, 1, "", "451 4.7.5"},
		{"bob@maybe.example", 0, 9, 1, "", "250"}, // in clear
		{"bob@auto2.example", 0, 9, 2, "", "250"},
		{"bob@auto2.example", 100_000, 9, 1, "", "250"},
		{"bob@auto2.example", 0, 1, 2, cipher.SuiteAES256GCMXWing, "250"},
	} {
		hop.Forget()
		asked := 0
		r.KM.OnGet = func(context.Context) error {
			if asked++; asked <= tt.refuse {
				return kmclient.ErrKeyExhausted
			}
			return nil
		}
		message := mailtest.Text + strings.Repeat("more\r\n", tt.size/6)
		c.Want(tt.want, c.Mail(message, "alice@a.example", tt.rcpt))
		if asked != tt.asks {
			t.Errorf("%s, %d bytes: keys were asked for %d times, want %d", tt.rcpt, tt.size, asked, tt.asks)
		}
		if tt.want != "250" {
			hop.None()
			continue
		}
		got := hop.One().Data
		if tt.suite == "" {
			if !strings.HasSuffix(got, "\r\n"+message) {
				t.Errorf("%s: not in clear, and there was no key: %s", tt.rcpt, mailtest.Clip(got))
			}
		} else if suite := mailtest.Decrypt(t, r.KM, got, key).Info().Suite; suite != tt.suite {
			t.Errorf("%s: under %s, want %s", tt.rcpt, suite, tt.suite)
		}
	}
}

// A message for an X-Wing key that is not here waits: the key may come. The key manager
// is not asked for it.
func TestUnknownHybridKey(t *testing.T) {
	mailtest.NoLeaks(t)
	ours, another := mailtest.NewHybridKey(t), mailtest.NewHybridKey(t)
	hop, r, c := mailtest.Start(t, mailer.DirectionDecrypt, ours.AsOurs)
	seen := &mailtest.Recorder{}
	r.Observe(seen)
	c.Want("451 4.7.5 The X-Wing key", c.Mail(sealedTo(t, r, another, cipher.SuiteOTPXWing, bob), "alice@a.example", bob))
	hop.None()
	if got := seen.Last(t, 1); got.Reason != "hybrid key" || got.Outcome != mailer.OutcomeDeferred || got.Suite != cipher.SuiteOTPXWing {
		t.Errorf("reported is %+v", got)
	}
	if _, asked := r.KM.Count(); asked != 0 {
		t.Errorf("%d keys were asked for", asked)
	}
}
