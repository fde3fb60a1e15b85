package mailer_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/mailer"
	"github.com/qkdmail/qkdmail/mailer/internal/mailtest"
	"github.com/qkdmail/qkdmail/mailer/relay"
	"github.com/qkdmail/qkdmail/mailer/relay/config"
)

// A scarceKM has a limited number of bytes of key left.
type scarceKM struct {
	*mailtest.KM
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
	return m.KM.GetKeys(ctx, peer, size, number)
}

// withPads adds opportunistic rules with pads.
func withPads(c *config.Config) {
	c.Rules = append(c.Rules,
		config.Rule{Domain: "maybepad.example", Peer: "bravo", Encrypt: mailer.Opportunistic, Suite: "otp"},
		config.Rule{Domain: "maybeauto.example", Peer: "bravo", Encrypt: mailer.Opportunistic, Suite: "auto"})
}

// The attack that left no keys for others: a pad for which there are too few keys, tried
// again and again.
func TestStockIsNotBurnt(t *testing.T) {
	mailtest.NoLeaks(t)
	hop := mailtest.StartHop(t)
	km := &scarceKM{KM: mailtest.NewKM()}
	r := mailtest.StartRelayWithKeys(t, km.KM, relay.Keys{Source: km, Claims: km}, mailer.DirectionEncrypt, hop.Addr())
	message := mailtest.Text + strings.Repeat(strings.Repeat("x", 70)+"\r\n", 250)
	for range 4 {
		km.left = 1000 * 32 // the link has made new keys
		km.limits = kmclient.Status{KeySize: 256, StoredKeys: new(1000), MaxKeySize: 256, MinKeySize: 256, MaxKeyPerRequest: 128}
		c := mailtest.Connect(t, r)
		c.Want("451 4.7.5", withSize(c, message, "b@pad.example"))
	}
	if km.used != 0 {
		t.Errorf("%d bytes of key were used up", km.used)
	}
	hop.None()
	// With enough keys the message goes out.
	km.left, km.limits.StoredKeys = 2000*32, new(2000)
	c := mailtest.Connect(t, r)
	c.Want("250", withSize(c, message, "b@pad.example"))
	if got := mailtest.Open(t, r.KM, hop.One().Data); got != message {
		t.Errorf("%d bytes came back as %d", len(message), len(got))
	}
}

// If the status is no help, only one attempt uses up the stock.
func TestRunsDryOnce(t *testing.T) {
	mailtest.NoLeaks(t)
	hop := mailtest.StartHop(t)
	km := &scarceKM{KM: mailtest.NewKM(), limits: kmclient.Status{KeySize: 256, MaxKeySize: 256, MinKeySize: 256, MaxKeyPerRequest: 128}}
	r := mailtest.StartRelayWithKeys(t, km.KM, relay.Keys{Source: km, Claims: km}, mailer.DirectionEncrypt, hop.Addr(), withPads)
	message := mailtest.Text + strings.Repeat(strings.Repeat("x", 70)+"\r\n", 250)
	for range 4 {
		km.left = 1000 * 32
		c := mailtest.Connect(t, r)
		c.Want("451 4.7.5", withSize(c, message, "b@pad.example"))
	}
	if km.used > 1000*32 {
		t.Errorf("%d bytes of key were used up, by more than one attempt", km.used)
	}
	// A message that needs less is tried, and one that may go out under another suite does.
	c := mailtest.Connect(t, r)
	c.Want("250", withSize(c, mailtest.Text, "b@pad.example"))
	c.Want("250", withSize(c, message, "b@maybeauto.example"))
	if got := hop.Got()[1].Data; mailtest.Open(t, r.KM, got) != message || !strings.Contains(got, "Suite: AES-256-GCM") {
		t.Errorf("%q", mailtest.Clip(got))
	}
}

func withSize(c *mailtest.Client, message, to string) string {
	c.Want("250", c.Cmd(fmt.Sprintf("MAIL FROM:<alice@a.example> SIZE=%d", len(message))))
	if reply := c.Cmd("RCPT TO:<" + to + ">"); reply[:3] != "250" {
		return reply
	}
	c.Want("354", c.Cmd("DATA"))
	c.Send(mailtest.Stuffed(message))
	return c.Reply()
}

// An opportunistic rule takes the best suite that there are keys for: the key manager's
// answer to a request for keys decides, whatever its status says.
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
				mailtest.NoLeaks(t)
				hop := mailtest.StartHop(t)
				km := &scarceKM{KM: mailtest.NewKM(), left: tt.left, limits: kmclient.Status{KeySize: 256, StoredKeys: count, MaxKeySize: 4096, MaxKeyPerRequest: 128}}
				r := mailtest.StartRelayWithKeys(t, km.KM, relay.Keys{Source: km, Claims: km}, mailer.DirectionEncrypt, hop.Addr(), withPads)
				message := mailtest.Text + strings.Repeat("very secret line\r\n", 20)
				for _, mail := range []func() string{
					func() string { return withSize(mailtest.Connect(t, r), message, "b@"+tt.to+".example") },
					func() string { return mailtest.Connect(t, r).Mail(message, "alice@a.example", "b@"+tt.to+".example") },
				} {
					hop.Forget()
					km.left = tt.left
					reply := mail()
					if tt.want != "" && tt.want[0] == '4' {
						if !strings.HasPrefix(reply, tt.want) {
							t.Errorf("%s, want %s", reply, tt.want)
						}
						hop.None()
						continue
					}
					got := hop.One().Data
					if tt.want == "" && !strings.HasSuffix(got, message) || tt.want != "" && (mailtest.Open(t, r.KM, got) != message || !strings.Contains(got, "Suite: "+tt.want)) {
						t.Errorf("%s: %q", reply, mailtest.Clip(got))
					}
				}
			})
		}
	}
}

// After keys were handed out for a pad and wiped, the message does not leave in clear,
// but it may in the next attempt, which takes none.
func TestInClearNeverAfterWastedKeys(t *testing.T) {
	mailtest.NoLeaks(t)
	hop := mailtest.StartHop(t)
	km := &scarceKM{KM: mailtest.NewKM(), left: 32, limits: kmclient.Status{KeySize: 256, MaxKeySize: 256, MaxKeyPerRequest: 1}}
	r := mailtest.StartRelayWithKeys(t, km.KM, relay.Keys{Source: km, Claims: km}, mailer.DirectionEncrypt, hop.Addr(), withPads)
	message := mailtest.Text + strings.Repeat("very secret line\r\n", 20)
	c := mailtest.Connect(t, r)
	c.Want("451 4.7.5", withSize(c, message, "b@maybeauto.example"))
	hop.None()
	c.Want("250", withSize(c, message, "b@maybeauto.example"))
	if got := hop.One().Data; !strings.HasSuffix(got, message) {
		t.Errorf("%q", mailtest.Clip(got))
	}
}

// If a key manager's limits allow no pad, auto says so once and takes AES-256-GCM, and
// the mail of a rule that insists on a pad waits.
func TestNoPad(t *testing.T) {
	mailtest.NoLeaks(t)
	hop := mailtest.StartHop(t)
	km := &scarceKM{KM: mailtest.NewKM(), left: 1 << 20, limits: kmclient.Status{KeySize: 256, StoredKeys: new(1000), MinKeySize: 1024, MaxKeySize: 512}}
	r := mailtest.StartRelayWithKeys(t, km.KM, relay.Keys{Source: km, Claims: km}, mailer.DirectionEncrypt, hop.Addr())
	c := mailtest.Connect(t, r)
	for range 3 {
		c.Want("250", withSize(c, mailtest.Text, "b@auto.example"))
	}
	if n := strings.Count(r.Log.String(), "there is no pad"); n != 1 {
		t.Errorf("it is in the log %d times, want 1", n)
	}
	c.Want("451 4.7.5", withSize(c, mailtest.Text, "b@pad.example"))
	// One key of 256 bits per request makes a pad, in many requests.
	km.limits = kmclient.Status{KeySize: 256, StoredKeys: new(1000), MinKeySize: 256, MaxKeySize: 256, MaxKeyPerRequest: 1}
	hop.Forget()
	c.Want("250", withSize(c, mailtest.Text, "b@pad.example"))
	if got := mailtest.Open(t, r.KM, hop.One().Data); got != mailtest.Text {
		t.Errorf("%q", mailtest.Clip(got))
	}
}

// A pad of short keys makes a message nearly three times as long. If the next hop will
// refuse it for that, it costs no key.
func TestPadTooLargeForNextHop(t *testing.T) {
	mailtest.NoLeaks(t)
	hop := mailtest.StartHop(t, func(h *mailtest.Hop) { h.Extensions = []string{"SIZE 100000"} })
	km := &scarceKM{KM: mailtest.NewKM(), left: 1 << 20, limits: kmclient.Status{KeySize: 256, MaxKeySize: 256, MaxKeyPerRequest: 128, KeyIDBytes: 16}}
	r := mailtest.StartRelayWithKeys(t, km.KM, relay.Keys{Source: km, Claims: km}, mailer.DirectionEncrypt, hop.Addr(), func(c *config.Config) {
		c.Rules = append(c.Rules, config.Rule{Domain: "longauto.example", Peer: "bravo", Suite: "auto", PadLimit: 100_000})
	})
	message := mailtest.Text + strings.Repeat(strings.Repeat("x", 70)+"\r\n", 700)
	c := mailtest.Connect(t, r)
	c.Want("250", withSize(c, mailtest.Text, "b@b.example")) // the next hop was seen
	km.used = 0
	c.Want("552 5.3.4", withSize(c, message, "b@pad.example"))
	if km.used > 0 {
		t.Errorf("%d bytes of key were used up", km.used)
	}
	hop.Forget()
	c.Want("250", c.Cmd("RSET"))
	c.Want("250", withSize(c, message, "b@longauto.example"))
	if got := hop.One().Data; mailtest.Open(t, r.KM, got) != message || !strings.Contains(got, "Suite: AES-256-GCM") {
		t.Errorf("%q", mailtest.Clip(got))
	}
}

// What is known from another message is no reason to send one in clear: there may be
// keys by now.
func TestHeldOffIsNotInClear(t *testing.T) {
	mailtest.NoLeaks(t)
	hop := mailtest.StartHop(t)
	km := &scarceKM{KM: mailtest.NewKM(), left: 64, limits: kmclient.Status{KeySize: 256, MaxKeySize: 256, MinKeySize: 256, MaxKeyPerRequest: 1}}
	r := mailtest.StartRelayWithKeys(t, km.KM, relay.Keys{Source: km, Claims: km}, mailer.DirectionEncrypt, hop.Addr(), withPads)
	message := mailtest.Text + "very secret\r\n"
	mailtest.Connect(t, r).Want("451", withSize(mailtest.Connect(t, r), message, "b@maybepad.example")) // two keys are used up
	km.left = 1 << 20
	mailtest.Connect(t, r).Want("451", withSize(mailtest.Connect(t, r), message, "b@maybepad.example"))
	hop.None()
	mailtest.Connect(t, r).Want("250", withSize(mailtest.Connect(t, r), message, "b@maybeauto.example"))
	if data := hop.One().Data; strings.Contains(data, "very secret") || !strings.Contains(data, "AES-256-GCM") {
		t.Errorf("with auto, and one key there, it leaves as %s", mailtest.Clip(data))
	}
}
