package mailer

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/cipher"
)

// TestAttack goes through the attacker table of the threat model, as far as it
// is the relay's and needs no durable store. An attacker sends; want is the
// beginning of his answer; more looks at what came of it.
func TestAttack(t *testing.T) {
	for name, attack := range map[string]func(t *testing.T, a *attacker){
		"flips":                              attackFlips,
		"cuts, reorders, splices":            attackSplices,
		"rubbish under a key ID that he saw": attackRubbish,
		"spells a key ID otherwise":          attackSpelling,
		"names thousands of key IDs":         attackManyIDs,
		"names another SAE or a path":        attackSAE,
		"reflects our own message":           attackReflect,
		"sends as one peer for another":      attackOtherPeer,
		"replays an old message":             attackReplay,
		"strips the encryption":              attackStrip,
		"AES where the pad is agreed":        attackSuite,
		"writes result and trace fields":     attackFields,
		"floods with unknown keys":           attackFlood,
	} {
		t.Run(name, func(t *testing.T) {
			noLeaks(t)
			hop := startHop(t)
			a := &attacker{t: t, hop: hop, r: startRelay(t, DirectionDecrypt, hop.addr(), func(c *Config) { c.Peers[1].Suites = []string{"otp"} })}
			a.c = connect(t, a.r)
			attack(t, a)
		})
	}
}

type attacker struct {
	t   *testing.T
	hop *testHop
	r   *testRelay
	c   *testClient
}

// send sends a message and forgets what the next hop had.
func (a *attacker) send(message string) string {
	a.hop.forget()
	if !strings.HasSuffix(message, "\r\n") {
		message += "\r\n"
	}
	return a.c.mail(message, "alice@a.example", "bob@b.example")
}

// refused sends a message that must not come through.
func (a *attacker) refused(want, message string) {
	a.t.Helper()
	a.c.want(want, a.send(message))
	a.hop.none()
}

// taken sends a message that must come through.
func (a *attacker) taken(message, restored string) {
	a.t.Helper()
	a.c.want("250", a.send(message))
	if got := a.hop.one().data; !strings.HasSuffix(got, restored) {
		a.t.Errorf("%q", clip(got))
	}
}

func attackFlips(t *testing.T, a *attacker) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, suite := range []cipher.Suite{cipher.SuiteAES256GCM, cipher.SuiteOTP} {
		sealed := seal(t, a.r.km, testMessage, func(o *cipher.EncryptOptions) { o.Suite = suite })
		for range 300 {
			i := random.IntN(len(sealed))
			c := "ABCxyz0123+/=-: "[random.IntN(16)]
			// Much of the outer header is free; the content is not.
			reply := a.send(sealed[:i] + string(c) + sealed[i+1:])
			switch got := a.hop.got(); {
			case strings.HasPrefix(reply, "250"):
				if m := got[0].data; !strings.HasSuffix(m, testMessage) && strings.Contains(m, "decrypt=pass") {
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
		large := testMessage + strings.Repeat("0123456789\r\n", 30_000)
		sealing := func(o *cipher.EncryptOptions) { o.Suite = suite }
		one, two := seal(t, a.r.km, large, sealing), seal(t, a.r.km, large, sealing)
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
			a.hop.none()
		}
	}
}

// The real message still opens.
func attackRubbish(t *testing.T, a *attacker) {
	for _, suite := range []cipher.Suite{cipher.SuiteAES256GCM, cipher.SuiteOTP} {
		sealed := seal(t, a.r.km, testMessage, func(o *cipher.EncryptOptions) { o.Suite = suite })
		i := strings.LastIndex(sealed, "base64\r\n\r\n") + 100
		for range 5 {
			a.refused("550 5.7.7", sealed[:i]+flip(sealed[i])+sealed[i+1:])
		}
		a.taken(sealed, testMessage)
	}
}

func attackSpelling(t *testing.T, a *attacker) {
	sealed := seal(t, a.r.km, testMessage)
	id := strings.TrimSpace(strings.TrimPrefix(strings.SplitN(sealed, "\r\n", 2)[0], "Qkdmail-Key-ID:"))
	a.r.km.keys[strings.Replace(id, "-8000-", "-abcd-", 1)] = []byte("another key of thirty-two octets")
	a.refused("550 5.7.7", strings.ReplaceAll(sealed, id, strings.ToUpper(strings.Replace(id, "-8000-", "-abcd-", 1))))
	a.taken(sealed, testMessage)
}

func attackManyIDs(t *testing.T, a *attacker) {
	sealed := seal(t, a.r.km, testMessage+strings.Repeat("0123456789\r\n", 100_000), func(o *cipher.EncryptOptions) { o.Suite = cipher.SuiteOTP })
	i := strings.LastIndex(sealed, "base64\r\n\r\n") + 30_000 // in the first frame
	a.refused("550 5.7.7", sealed[:i]+flip(sealed[i])+sealed[i+1:])
	given, _ := a.r.km.count()
	if _, asked := a.r.km.count(); asked > given/10 {
		t.Errorf("%d of %d keys were asked for", asked, given)
	}
}

func attackSAE(t *testing.T, a *attacker) {
	for _, sae := range []string{"SAE_X", "../../SAE_A", "SAE_A/../SAE_C", "SAE_A%00", "sae_a", ""} {
		a.refused("550 5.7.1", seal(t, a.r.km, testMessage, func(o *cipher.EncryptOptions) { o.SAE = sae }))
	}
	if _, asked := a.r.km.count(); asked > 0 {
		t.Error("a key was asked for")
	}
}

func attackReflect(t *testing.T, a *attacker) {
	for _, saes := range [][2]string{{"SAE_B", "SAE_A"}, {"SAE_B", "SAE_B"}} {
		a.refused("550 5.7.1", seal(t, a.r.km, testMessage, func(o *cipher.EncryptOptions) { o.SAE, o.Peer = saes[0], saes[1] }))
	}
	if _, asked := a.r.km.count(); asked > 0 {
		t.Error("a key was asked for")
	}
}

func attackOtherPeer(t *testing.T, a *attacker) {
	a.refused("550 5.7.1", seal(t, a.r.km, testMessage, func(o *cipher.EncryptOptions) { o.SAE, o.Suite = "SAE_C", cipher.SuiteOTP }))
	a.taken(seal(t, a.r.km, testMessage), testMessage)
}

func attackReplay(t *testing.T, a *attacker) {
	a.refused("550 5.7.1", seal(t, a.r.km, testMessage, func(o *cipher.EncryptOptions) { o.Time = time.Now().Add(-30*24*time.Hour - time.Minute) }))
	a.refused("550 5.7.1", seal(t, a.r.km, testMessage, func(o *cipher.EncryptOptions) { o.Time = time.Now().Add(24*time.Hour + time.Minute) }))
}

func attackStrip(t *testing.T, a *attacker) {
	a.refused("550 5.7.1", testMessage)
	a.refused("550 5.7.1", "X: 1\r\nFrom: x@x.example\r\n\r\nthe envelope says alice@a.example\r\n")
	a.refused("550 5.7.7", "Qkdmail-Key-ID: x\r\n"+testMessage)
}

func attackSuite(t *testing.T, a *attacker) {
	message := strings.ReplaceAll(testMessage, "a.example", "c.example")
	from := func(suite cipher.Suite) string {
		return seal(t, a.r.km, message, func(o *cipher.EncryptOptions) { o.SAE, o.Suite = "SAE_C", suite })
	}
	a.hop.forget()
	a.c.want("550 5.7.1", a.c.mail(from(cipher.SuiteAES256GCM), "c@c.example", "bob@b.example"))
	a.hop.none()
	a.c.want("250", a.c.mail(from(cipher.SuiteOTP), "c@c.example", "bob@b.example"))
}

func attackFields(t *testing.T, a *attacker) {
	sealed := seal(t, a.r.km, testMessage)
	evil := "Qkdmail-Result: evil; decrypt=pass\r\nX-Evil: 1\r\nSubject: evil\r\nDKIM-Signature: evil\r\n"
	a.taken(evil+sealed, testMessage)
	if got := a.hop.one().data; strings.Contains(strings.ToLower(got), "evil") || strings.Count(got, ResultField) != 1 || !strings.HasPrefix(got, ResultField) {
		t.Errorf("%q", got)
	}
}

// Keys that don't exist are not asked for at any rate; those that do are.
func attackFlood(t *testing.T, a *attacker) {
	gate := newKeyGate(a.r.km, time.Second, time.Hour)
	now := time.Now()
	gate.now = func() time.Time { return now }
	for i := range 2 * peerBurst {
		_, _ = gate.keysByID(t.Context(), "", "SAE_A", fmt.Sprint("unknown-", i))
	}
	if _, asked := a.r.km.count(); asked != peerBurst {
		t.Errorf("asked %d times", asked)
	}
	if _, err := gate.keysByID(t.Context(), "", "SAE_A", "unknown"); replyTo(err).Code != 451 {
		t.Error(err)
	}
	if _, err := gate.keysByID(t.Context(), "", "SAE_C", "unknown"); replyTo(err).reason != "key not found" {
		t.Error("one peer's flood is another's trouble:", err)
	}
	keys, err := a.r.km.GetKeys(t.Context(), "", 256, 1)
	if err != nil {
		t.Fatal(err)
	}
	now = now.Add(time.Second)
	for range 3 * peerRate {
		if _, err := gate.keysByID(t.Context(), "", "SAE_A", keys[0].ID()); err != nil {
			t.Fatal(err)
		}
	}
}

// Many clients at once, through both relays, with a next hop that refuses and
// drops now and then: each 250 is one message with its octets, and no other.
func TestManyClients(t *testing.T) {
	noLeaks(t)
	n := 0
	hop := startHop(t, func(h *testHop) {
		var mu sync.Mutex
		h.script = func(line string) string {
			mu.Lock()
			defer mu.Unlock()
			if n++; line == "GREETING" || strings.HasPrefix(line, "EHLO") {
				return ""
			}
			switch {
			case n%397 == 0:
				return drop
			case n%251 == 0 && line != "BODY":
				return "451 4.3.0 later"
			}
			return ""
		}
	})
	decrypt := startRelay(t, DirectionDecrypt, hop.addr())
	encrypt := startRelayWith(t, decrypt.km, DirectionEncrypt, decrypt.addr.String(), func(c *Config) { c.NextHops[0].MaxConnections = 5 })
	var mu sync.Mutex
	sent := map[string]bool{}
	var wg sync.WaitGroup
	for client := range 16 {
		c := connect(t, encrypt)
		wg.Go(func() {
			for i := range 20 {
				id := fmt.Sprintf("<%d.%d@x.example>", client, i)
				message := "From: x@x.example\r\nMessage-ID: " + id + "\r\n\r\n" + strings.Repeat("body of "+id+"\r\n", 1+i*i)
				reply := c.cmd("MAIL FROM:<x@x.example>")
				if strings.HasPrefix(reply, "250") {
					reply = c.cmd("RCPT TO:<y@b.example>")
				}
				if strings.HasPrefix(reply, "250") {
					c.send("DATA\r\n")
					c.reply()
					c.send(stuffed(message))
					reply = c.reply()
				}
				switch {
				case strings.HasPrefix(reply, "250"):
					mu.Lock()
					sent[message] = true
					mu.Unlock()
				case !strings.HasPrefix(reply, "451"):
					t.Errorf("%s: %q", id, reply)
				}
				_ = c.cmd("RSET")
			}
		})
	}
	wg.Wait()
	got := map[string]int{}
	for _, m := range hop.got() {
		_, message, _ := strings.Cut(m.data, "From: x@x.example\r\n")
		got["From: x@x.example\r\n"+message]++
	}
	for message := range sent {
		if got[message] != 1 {
			t.Errorf("%d times at the next hop: %q", got[message], clip(message))
		}
	}
	if len(sent) < 100 {
		t.Errorf("only %d of 320 messages went through", len(sent))
	}
}

// With one connection to the next hop for two groups the second is told to
// come again, and nothing waits for ever.
func TestLMTPGroupsOneConnection(t *testing.T) {
	noLeaks(t)
	hop := startHop(t)
	r := startRelay(t, DirectionEncrypt, hop.addr(), overLMTP, func(c *Config) {
		c.NextHops[0].MaxConnections, c.Timeouts.Connect = 1, 100*time.Millisecond
	})
	c := connect(t, r)
	c.want("250", c.cmd("MAIL FROM:<a@a.example>"))
	c.want("250", c.cmd("RCPT TO:<1@b.example>"))
	c.want("451 4.3.2", c.cmd("RCPT TO:<2@clear.example>"))
	c.want("354", c.cmd("DATA"))
	c.send(stuffed(testMessage))
	c.want("250", c.reply())
	hop.one()
}
