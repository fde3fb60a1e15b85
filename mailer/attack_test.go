package mailer_test

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/mailer"
	"github.com/qkdmail/qkdmail/mailer/internal/mailtest"
	"github.com/qkdmail/qkdmail/mailer/relay/config"
)

// TestAttack goes through the attacker table of the threat model, as far as it concerns
// the relay and needs no durable store.
func TestAttack(t *testing.T) {
	for name, attack := range map[string]func(t *testing.T, a *attacker){
		"flips":                                attackFlips,
		"cuts, reorders, splices":              attackSplices,
		"rubbish under a key ID that was seen": attackRubbish,
		"spells a key ID otherwise":            attackSpelling,
		"names thousands of key IDs":           attackManyIDs,
		"names another SAE or a path":          attackSAE,
		"reflects our own message":             attackReflect,
		"sends as one peer for another":        attackOtherPeer,
		"replays an old message":               attackReplay,
		"strips the encryption":                attackStrip,
		"AES where the pad is agreed":          attackSuite,
		"writes result and trace fields":       attackFields,
	} {
		t.Run(name, func(t *testing.T) {
			mailtest.NoLeaks(t)
			hop := mailtest.StartHop(t)
			a := &attacker{t: t, hop: hop, r: mailtest.StartRelay(t, mailer.DirectionDecrypt, hop.Addr(), func(c *config.Config) { c.Peers[1].Suites = []string{"otp"} })}
			a.c = mailtest.Connect(t, a.r)
			attack(t, a)
		})
	}
}

type attacker struct {
	t   *testing.T
	hop *mailtest.Hop
	r   *mailtest.Relay
	c   *mailtest.Client
}

// send sends a message and forgets what the next hop had.
func (a *attacker) send(message string) string {
	a.hop.Forget()
	if !strings.HasSuffix(message, "\r\n") {
		message += "\r\n"
	}
	return a.c.Mail(message, "alice@a.example", "bob@b.example")
}

// refused sends a message that must not come through.
func (a *attacker) refused(want, message string) {
	a.t.Helper()
	a.c.Want(want, a.send(message))
	a.hop.None()
}

// taken sends a message that must come through.
func (a *attacker) taken(message, restored string) {
	a.t.Helper()
	a.c.Want("250", a.send(message))
	if got := a.hop.One().Data; !strings.HasSuffix(got, restored) {
		a.t.Errorf("%q", mailtest.Clip(got))
	}
}

func attackFlips(t *testing.T, a *attacker) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, suite := range []cipher.Suite{cipher.SuiteAES256GCM, cipher.SuiteOTP} {
		sealed := mailtest.Seal(t, a.r.KM, mailtest.Text, func(o *cipher.EncryptOptions) { o.Suite = suite })
		for range 300 {
			i := random.IntN(len(sealed))
			c := "ABCxyz0123+/=-: "[random.IntN(16)]
			// Much of the outer header may change; the content may not.
			reply := a.send(sealed[:i] + string(c) + sealed[i+1:])
			switch got := a.hop.Got(); {
			case strings.HasPrefix(reply, "250"):
				if m := got[0].Data; !strings.HasSuffix(m, mailtest.Text) && strings.Contains(m, "decrypt=pass") {
					t.Fatalf("%q at %d: %q", c, i, m)
				}
			case len(got) > 0:
				t.Fatalf("%q at %d was refused and delivered", c, i)
			}
		}
	}
}

func attackSplices(t *testing.T, a *attacker) {
	for _, suite := range []cipher.Suite{cipher.SuiteAES256GCM, cipher.SuiteOTP} {
		large := mailtest.Text + strings.Repeat("0123456789\r\n", 30_000)
		sealing := func(o *cipher.EncryptOptions) { o.Suite = suite }
		one, two := mailtest.Seal(t, a.r.KM, large, sealing), mailtest.Seal(t, a.r.KM, large, sealing)
		split := func(s string) (head string, lines []string, tail string) {
			i := strings.LastIndex(s, "base64\r\n\r\n") + len("base64\r\n\r\n")
			j := i + strings.Index(s[i:], "\r\n--")
			return s[:i], strings.SplitAfter(s[i:j], "\r\n"), s[j:]
		}
		head, lines, tail := split(one)
		_, others, _ := split(two)
		half := len(lines) / 2
		join := func(parts ...[]string) string {
			var b strings.Builder
			b.WriteString(head)
			for _, p := range parts {
				b.WriteString(strings.Join(p, ""))
			}
			return b.String() + tail
		}
		a.taken(join(lines), large)
		for name, message := range map[string]string{
			"cut":      join(lines[:half]),
			"doubled":  join(lines, lines),
			"reorder":  join(lines[half:], lines[:half]),
			"spliced":  join(lines[:half], others[half:]),
			"dropped":  join(lines[:half], lines[half+1:]),
			"swapped":  join(others),
			"no end":   head + strings.Join(lines[:half], ""),
			"and more": join(lines, []string{"AAAA\r\n"}),
		} {
			if reply := a.send(message); !strings.HasPrefix(reply, "550 5.7.") {
				t.Errorf("%s %s: %s", suite, name, reply)
			}
			a.hop.None()
		}
	}
}

// The real message still opens.
func attackRubbish(t *testing.T, a *attacker) {
	for _, suite := range []cipher.Suite{cipher.SuiteAES256GCM, cipher.SuiteOTP} {
		sealed := mailtest.Seal(t, a.r.KM, mailtest.Text, func(o *cipher.EncryptOptions) { o.Suite = suite })
		i := strings.LastIndex(sealed, "base64\r\n\r\n") + 100
		for range 5 {
			a.refused("550 5.7.7", sealed[:i]+flip(sealed[i])+sealed[i+1:])
		}
		a.taken(sealed, mailtest.Text)
	}
}

func attackSpelling(t *testing.T, a *attacker) {
	sealed := mailtest.Seal(t, a.r.KM, mailtest.Text)
	id := strings.TrimSpace(strings.TrimPrefix(strings.SplitN(sealed, "\r\n", 2)[0], "Qkdmail-Key-ID:"))
	a.r.KM.Put(strings.Replace(id, "-8000-", "-abcd-", 1), []byte("another key of thirty-two octets"))
	a.refused("550 5.7.7", strings.ReplaceAll(sealed, id, strings.ToUpper(strings.Replace(id, "-8000-", "-abcd-", 1))))
	a.taken(sealed, mailtest.Text)
}

func attackManyIDs(t *testing.T, a *attacker) {
	sealed := mailtest.Seal(t, a.r.KM, mailtest.Text+strings.Repeat("0123456789\r\n", 100_000), func(o *cipher.EncryptOptions) { o.Suite = cipher.SuiteOTP })
	i := strings.LastIndex(sealed, "base64\r\n\r\n") + 30_000 // in the first frame
	a.refused("550 5.7.7", sealed[:i]+flip(sealed[i])+sealed[i+1:])
	given, _ := a.r.KM.Count()
	if _, asked := a.r.KM.Count(); asked > given/10 {
		t.Errorf("%d of %d keys were asked for", asked, given)
	}
}

func attackSAE(t *testing.T, a *attacker) {
	for _, sae := range []string{"SAE_X", "../../SAE_A", "SAE_A/../SAE_C", "SAE_A%00", "sae_a", ""} {
		a.refused("550 5.7.1", mailtest.Seal(t, a.r.KM, mailtest.Text, func(o *cipher.EncryptOptions) { o.SAE = sae }))
	}
	if _, asked := a.r.KM.Count(); asked > 0 {
		t.Error("a key was asked for")
	}
}

func attackReflect(t *testing.T, a *attacker) {
	for _, saes := range [][2]string{{"SAE_B", "SAE_A"}, {"SAE_B", "SAE_B"}} {
		a.refused("550 5.7.1", mailtest.Seal(t, a.r.KM, mailtest.Text, func(o *cipher.EncryptOptions) { o.SAE, o.Peer = saes[0], saes[1] }))
	}
	if _, asked := a.r.KM.Count(); asked > 0 {
		t.Error("a key was asked for")
	}
}

func attackOtherPeer(t *testing.T, a *attacker) {
	a.refused("550 5.7.1", mailtest.Seal(t, a.r.KM, mailtest.Text, func(o *cipher.EncryptOptions) { o.SAE, o.Suite = "SAE_C", cipher.SuiteOTP }))
	a.taken(mailtest.Seal(t, a.r.KM, mailtest.Text), mailtest.Text)
}

func attackReplay(t *testing.T, a *attacker) {
	a.refused("550 5.7.1", mailtest.Seal(t, a.r.KM, mailtest.Text, func(o *cipher.EncryptOptions) { o.Time = time.Now().Add(-30*24*time.Hour - time.Minute) }))
	a.refused("451 4.7.1", mailtest.Seal(t, a.r.KM, mailtest.Text, func(o *cipher.EncryptOptions) { o.Time = time.Now().Add(24*time.Hour + time.Minute) }))
}

func attackStrip(t *testing.T, a *attacker) {
	a.refused("550 5.7.1", mailtest.Text)
	a.refused("550 5.7.1", "X: 1\r\nFrom: x@x.example\r\n\r\nthe envelope says alice@a.example\r\n")
	a.refused("550 5.7.7", "Qkdmail-Key-ID: x\r\n"+mailtest.Text)
}

func attackSuite(t *testing.T, a *attacker) {
	message := strings.ReplaceAll(mailtest.Text, "a.example", "c.example")
	from := func(suite cipher.Suite) string {
		return mailtest.Seal(t, a.r.KM, message, func(o *cipher.EncryptOptions) { o.SAE, o.Suite = "SAE_C", suite })
	}
	a.hop.Forget()
	a.c.Want("550 5.7.1", a.c.Mail(from(cipher.SuiteAES256GCM), "c@c.example", "bob@b.example"))
	a.hop.None()
	a.c.Want("250", a.c.Mail(from(cipher.SuiteOTP), "c@c.example", "bob@b.example"))
}

func attackFields(t *testing.T, a *attacker) {
	sealed := mailtest.Seal(t, a.r.KM, mailtest.Text)
	evil := "Qkdmail-Result: evil; decrypt=pass\r\nX-Evil: 1\r\nSubject: evil\r\nDKIM-Signature: evil\r\n"
	a.taken(evil+sealed, mailtest.Text)
	if got := a.hop.One().Data; strings.Contains(strings.ToLower(got), "evil") || strings.Count(got, mailer.ResultField) != 1 || !strings.HasPrefix(got, mailer.ResultField) {
		t.Errorf("%q", got)
	}
}
