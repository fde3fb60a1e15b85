package mailer

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/kmclient"
)

// What is refused for want of keys, and when an attempt is made.
func TestStock(t *testing.T) {
	status := func(stored int) kmclient.Status {
		return kmclient.Status{KeySize: 256, StoredKeys: new(stored), MaxKeySize: 256, MaxKeyPerRequest: 128}
	}
	frames := func(n int64) cipher.PadCost { return cipher.PadCost{Frames: n, Keys: 255 * n, KeyBytes: 255 * 32 * n} }
	const trial = true
	one := cipher.PadCost{Frames: 1, Keys: 100, KeyBytes: 3200}
	now := time.Now()
	s := newStock(discardLog())
	s.now = func() time.Time { return now }
	check := func(what string, cost cipher.PadCost, status kmclient.Status, opportunistic, allowed bool) {
		t.Helper()
		_, err := s.check("B", cost, status, opportunistic)
		if (err == nil) != allowed || err != nil && !errors.Is(err, kmclient.ErrKeyExhausted) {
			t.Errorf("%s: %v, want allowed: %v", what, err, allowed)
		}
	}
	check("enough", frames(3), status(1000), false, true)
	check("none in the status", frames(3), status(0), false, true)
	check("no word on the stock", frames(3), kmclient.Status{}, false, true)
	check("made on demand", frames(3), kmclient.Status{KeySize: 256, StoredKeys: new(1), OnDemand: true}, false, true)
	check("too few for one request", one, status(10), false, true)
	check("too few, opportunistic", frames(3), status(10), true, true)
	check("too few", frames(3), status(10), false, false)
	check("too few again", frames(3), status(10), false, false)
	check("the same, where the status is not sure", frames(3), status(0), false, false)
	check("a longer one", frames(4), status(0), false, false)
	check("a shorter one", frames(2), status(0), false, true)
	check("the status alone does not count", frames(3), status(0), true, true)
	check("keys have come", frames(3), status(1000), false, true)
	now = now.Add(61 * time.Second)
	check("one may try", frames(3), status(10), false, true)
	check("and no other", frames(3), status(10), false, false)
	s.learn("B", frames(3).KeyBytes, 0, trial, errNotTried)
	check("another, since it has shown nothing", frames(3), status(10), false, true)
	s.learn("B", frames(3).KeyBytes, 200, trial, fmt.Errorf("test: %w", kmclient.ErrKeyExhausted))
	now = now.Add(61 * time.Second)
	check("for longer", frames(3), status(10), false, false)
	now = now.Add(60 * time.Second)
	check("then one", frames(3), status(10), false, true)
	now = now.Add(121 * time.Second)
	check("and one more, since that one never ends", frames(3), status(10), false, true)
	s.learn("B", frames(3).KeyBytes, 200, trial, fmt.Errorf("test: %w", kmclient.ErrKeyExhausted))
	check("it ran dry", frames(3), status(0), false, false)
	check("it ran dry, opportunistic", frames(3), status(0), true, false)
	check("another peer's", frames(2), status(0), true, true)
	now = now.Add(2 * time.Hour)
	check("tried again", frames(3), status(0), true, true)
	s.learn("B", frames(3).KeyBytes, 765, trial, nil)
	check("it went well", frames(3), status(0), true, true)
	s.learn("B", frames(3).KeyBytes, 0, !trial, kmclient.ErrKeyExhausted)
	check("nothing was used up", frames(3), status(0), true, true)
	for range 20 {
		s.learn("B", frames(3).KeyBytes, 1, trial, kmclient.ErrKeyExhausted)
		now = now.Add(mostWait + time.Second)
		check("an hour at most", frames(3), status(0), false, true)
	}
}

// A scarceKM has so many bytes of key left.
type scarceKM struct {
	*testKM
	left, used int
	limits     kmclient.Status
}

func (m *scarceKM) Status(context.Context, string) (kmclient.Status, error) { return m.limits, nil }

func (m *scarceKM) GetKeys(ctx context.Context, peer string, size, number int) ([]*kmclient.Key, error) {
	if size/8*number > m.left {
		return nil, &kmclient.Error{Op: "get keys", Retry: true, Err: kmclient.ErrKeyExhausted}
	}
	m.left -= size / 8 * number
	m.used += size / 8 * number
	return m.testKM.GetKeys(ctx, peer, size, number)
}

// withPads adds opportunistic rules with pads.
func withPads(c *Config) {
	c.Rules = append(c.Rules,
		RuleConfig{Domain: "maybepad.example", Peer: "bravo", Encrypt: Opportunistic, Suite: "otp"},
		RuleConfig{Domain: "maybeauto.example", Peer: "bravo", Encrypt: Opportunistic, Suite: "auto"})
}

// The attack that left no key for others: a pad that can't be had, tried again and
// again.
func TestStockIsNotBurnt(t *testing.T) {
	noLeaks(t)
	hop := startHop(t)
	km := &scarceKM{testKM: newTestKM()}
	r := startRelayBehind(t, km.testKM, km, DirectionEncrypt, hop.addr())
	message := testMessage + strings.Repeat(strings.Repeat("x", 70)+"\r\n", 250)
	for range 4 {
		km.left = 1000 * 32 // the link has made new keys
		km.limits = kmclient.Status{KeySize: 256, StoredKeys: new(1000), MaxKeySize: 256, MinKeySize: 256, MaxKeyPerRequest: 128}
		c := connect(t, r)
		c.want("451 4.7.5", withSize(c, message, "b@pad.example"))
	}
	if km.used != 0 {
		t.Errorf("%d bytes of key were used up", km.used)
	}
	hop.none()
	// As many as it takes, and the message goes out.
	km.left, km.limits.StoredKeys = 2000*32, new(2000)
	c := connect(t, r)
	c.want("250", withSize(c, message, "b@pad.example"))
	if got := open(t, r.km, hop.one().data); got != message {
		t.Errorf("%d bytes came back as %d", len(message), len(got))
	}
}

// Where the status is no help, an attempt uses the stock up once.
func TestRunsDryOnce(t *testing.T) {
	noLeaks(t)
	hop := startHop(t)
	km := &scarceKM{testKM: newTestKM(), limits: kmclient.Status{KeySize: 256, MaxKeySize: 256, MinKeySize: 256, MaxKeyPerRequest: 128}}
	r := startRelayBehind(t, km.testKM, km, DirectionEncrypt, hop.addr(), withPads)
	message := testMessage + strings.Repeat(strings.Repeat("x", 70)+"\r\n", 250)
	for range 4 {
		km.left = 1000 * 32
		c := connect(t, r)
		c.want("451 4.7.5", withSize(c, message, "b@pad.example"))
	}
	if km.used > 1000*32 {
		t.Errorf("%d bytes of key were used up, by more than one attempt", km.used)
	}
	// A message that needs less is tried, and one that may go out otherwise does.
	c := connect(t, r)
	c.want("250", withSize(c, testMessage, "b@pad.example"))
	c.want("250", withSize(c, message, "b@maybeauto.example"))
	if got := hop.got()[1].data; open(t, r.km, got) != message || !strings.Contains(got, "Suite: AES-256-GCM") {
		t.Errorf("%q", clip(got))
	}
}

func withSize(c *testClient, message, to string) string {
	c.want("250", c.cmd(fmt.Sprintf("MAIL FROM:<alice@a.example> SIZE=%d", len(message))))
	if reply := c.cmd("RCPT TO:<" + to + ">"); reply[:3] != "250" {
		return reply
	}
	c.want("354", c.cmd("DATA"))
	c.send(stuffed(message))
	return c.reply()
}

// An opportunistic rule takes the best that there are keys for, as the key manager's
// answer to a request for them says, whatever its status.
func TestOpportunisticTakesTheBest(t *testing.T) {
	for _, tt := range []struct {
		name     string
		left     int // bytes of key
		to, want string
	}{
		{"enough", 5000, "maybeauto", "OTP"},
		{"one key", 32, "maybeauto", "AES-256-GCM"},
		{"none", 0, "maybeauto", ""},
		{"enough", 5000, "maybepad", "OTP"},
		{"one key", 32, "maybepad", ""},
		{"one key", 32, "maybe", "AES-256-GCM"},
		{"none", 31, "maybe", ""},
		{"one key", 32, "auto", "451 4.7.5"},
		{"one key", 32, "pad", "451 4.7.5"},
		{"enough", 5000, "auto", "OTP"},
	} {
		for stored, count := range map[string]*int{"none": new(0), "one": new(1), "many": new(1_000_000), "not said": nil} {
			t.Run(fmt.Sprintf("%s with %s, status says %s", tt.to, tt.name, stored), func(t *testing.T) {
				noLeaks(t)
				hop := startHop(t)
				km := &scarceKM{testKM: newTestKM(), left: tt.left, limits: kmclient.Status{KeySize: 256, StoredKeys: count, MaxKeySize: 4096, MaxKeyPerRequest: 128}}
				r := startRelayBehind(t, km.testKM, km, DirectionEncrypt, hop.addr(), withPads)
				message := testMessage + strings.Repeat("very secret line\r\n", 20)
				for _, mail := range []func() string{
					func() string { return withSize(connect(t, r), message, "b@"+tt.to+".example") },
					func() string { return connect(t, r).mail(message, "alice@a.example", "b@"+tt.to+".example") },
				} {
					hop.forget()
					km.left = tt.left
					reply := mail()
					if tt.want != "" && tt.want[0] == '4' {
						if !strings.HasPrefix(reply, tt.want) {
							t.Errorf("%s, want %s", reply, tt.want)
						}
						hop.none()
						continue
					}
					got := hop.one().data
					if tt.want == "" && !strings.HasSuffix(got, message) || tt.want != "" && (open(t, r.km, got) != message || !strings.Contains(got, "Suite: "+tt.want)) {
						t.Errorf("%s: %q", reply, clip(got))
					}
				}
			})
		}
	}
}

// Keys that were handed out for a pad and wiped: the message does not leave in clear
// then, but it may with the next attempt, which takes none.
func TestInClearNeverAfterWastedKeys(t *testing.T) {
	noLeaks(t)
	hop := startHop(t)
	km := &scarceKM{testKM: newTestKM(), left: 32, limits: kmclient.Status{KeySize: 256, MaxKeySize: 256, MaxKeyPerRequest: 1}}
	r := startRelayBehind(t, km.testKM, km, DirectionEncrypt, hop.addr(), withPads)
	message := testMessage + strings.Repeat("very secret line\r\n", 20)
	c := connect(t, r)
	c.want("451 4.7.5", withSize(c, message, "b@maybeauto.example"))
	hop.none()
	c.want("250", withSize(c, message, "b@maybeauto.example"))
	if got := hop.one().data; !strings.HasSuffix(got, message) {
		t.Errorf("%q", clip(got))
	}
}

// A key manager whose limits allow no pad: auto says so once and takes AES, and mail
// of a rule that insists waits.
func TestNoPad(t *testing.T) {
	noLeaks(t)
	hop := startHop(t)
	km := &scarceKM{testKM: newTestKM(), left: 1 << 20, limits: kmclient.Status{KeySize: 256, StoredKeys: new(1000), MinKeySize: 1024, MaxKeySize: 512}}
	r := startRelayBehind(t, km.testKM, km, DirectionEncrypt, hop.addr())
	c := connect(t, r)
	for range 3 {
		c.want("250", withSize(c, testMessage, "b@auto.example"))
	}
	if n := strings.Count(r.log.String(), "there is no pad"); n != 1 {
		t.Errorf("that is in the log %d times, want 1", n)
	}
	c.want("451 4.7.5", withSize(c, testMessage, "b@pad.example"))
	// One key of 256 bits a request makes a pad, in many requests.
	km.limits = kmclient.Status{KeySize: 256, StoredKeys: new(1000), MinKeySize: 256, MaxKeySize: 256, MaxKeyPerRequest: 1}
	hop.forget()
	c.want("250", withSize(c, testMessage, "b@pad.example"))
	if got := open(t, r.km, hop.one().data); got != testMessage {
		t.Errorf("%q", clip(got))
	}
}

// A pad of short keys makes a message nearly three times as long. What the next hop
// will refuse for that costs no key.
func TestPadTooLargeForNextHop(t *testing.T) {
	noLeaks(t)
	hop := startHop(t, func(h *testHop) { h.ext = []string{"SIZE 100000"} })
	km := &scarceKM{testKM: newTestKM(), left: 1 << 20, limits: kmclient.Status{KeySize: 256, MaxKeySize: 256, MaxKeyPerRequest: 128, KeyIDBytes: 16}}
	r := startRelayBehind(t, km.testKM, km, DirectionEncrypt, hop.addr(), func(c *Config) {
		c.Rules = append(c.Rules, RuleConfig{Domain: "longauto.example", Peer: "bravo", Suite: "auto", PadLimit: 100_000})
	})
	message := testMessage + strings.Repeat(strings.Repeat("x", 70)+"\r\n", 700)
	c := connect(t, r)
	c.want("250", withSize(c, testMessage, "b@b.example")) // the next hop was seen
	km.used = 0
	c.want("552 5.3.4", withSize(c, message, "b@pad.example"))
	if km.used > 0 {
		t.Errorf("%d bytes of key were used up", km.used)
	}
	hop.forget()
	c.want("250", c.cmd("RSET"))
	c.want("250", withSize(c, message, "b@longauto.example"))
	if got := hop.one().data; open(t, r.km, got) != message || !strings.Contains(got, "Suite: AES-256-GCM") {
		t.Errorf("%q", clip(got))
	}
}

// What is known from another message is no reason to send one in clear: there may be
// keys by now.
func TestHeldOffIsNotInClear(t *testing.T) {
	noLeaks(t)
	hop := startHop(t)
	km := &scarceKM{testKM: newTestKM(), left: 64, limits: kmclient.Status{KeySize: 256, MaxKeySize: 256, MinKeySize: 256, MaxKeyPerRequest: 1}}
	r := startRelayBehind(t, km.testKM, km, DirectionEncrypt, hop.addr(), withPads)
	message := testMessage + "very secret\r\n"
	connect(t, r).want("451", withSize(connect(t, r), message, "b@maybepad.example")) // two keys are used up
	km.left = 1 << 20
	connect(t, r).want("451", withSize(connect(t, r), message, "b@maybepad.example"))
	hop.none()
	connect(t, r).want("250", withSize(connect(t, r), message, "b@maybeauto.example"))
	if data := hop.one().data; strings.Contains(data, "very secret") || !strings.Contains(data, "AES-256-GCM") {
		t.Errorf("with auto, and one key there, it leaves as %s", clip(data))
	}
}
