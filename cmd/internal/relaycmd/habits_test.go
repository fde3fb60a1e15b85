package relaycmd

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/cmd/internal/kmsim"
	"github.com/qkdmail/qkdmail/cmd/internal/kmtest"
)

// Outcomes of a message. The others are the suite, "OTP" or "AES-256-GCM", and the reason
// in the log for a 451.
const (
	inClear = "in clear"
	ends    = "the relay ends"
)

// outcomes are the outcomes of a message of 464 bytes, and then of one of 3,000, at a
// relay whose rule has one of these suites. A single text is for both messages; "" stands
// for the suite, and for the pad with auto.
type outcomes struct {
	otp, aes, auto string
	maybe          string // auto with an opportunistic rule; "": not tried
}

// same is for habits with which the suite makes no difference.
func same(became string) outcomes { return outcomes{became, became, became, became} }

func wanted() map[string]outcomes {
	const (
		aes   = "AES-256-GCM"
		empty = "no key left"
	)
	// Enough keys for AES-256-GCM, but not for a pad.
	few := outcomes{otp: empty, auto: empty, maybe: aes}
	return map[string]outcomes{
		"stored_key_count 0, on demand": {maybe: "OTP"},
		"fewer keys than asked for":     {maybe: "OTP"},
		"no limits in the status":       {maybe: "OTP"},

		"sizes rounded up to 264": same("bad key"),
		"size ignored":            same("bad key"),

		"a stock of two":                  few,
		"a stock of two, worded so":       few,
		"the same with 503":               few,
		"a code instead of words":         few,
		"a stock of two, 0 in the status": few,
		"a stock of 15":                   few,
		"a stock of 20":                   {otp: "OTP, then " + empty, auto: "OTP, then " + empty, maybe: "OTP, then " + aes},
		// The first pad uses up both keys in vain, so its message must not leave in
		// clear. The second message gets none.
		"a stock of two, key by key": {otp: empty, auto: empty, maybe: empty + ", then " + inClear},

		"a stock of 15, as it is": few,
		// The keys are then in the pool, and AES-256-GCM finds one there.
		"a stock of 15, as it is, of 256 bits": few,

		"an empty stock":               {empty, empty, empty, inClear},
		"out of order, with 503":       same("km unavailable"),
		"an empty stock, said in HTML": same("km unavailable"),
		"401 in HTML":                  same("km refuses"),

		"keys too short":            {ends, "km request", "km request", "km request"},
		"keys said to be too short": {otp: ends, auto: aes, maybe: aes},
		"a status that fails":       {otp: "km unavailable", auto: "km unavailable", maybe: "km unavailable"},
		"a status that is refused":  {otp: "km refuses", auto: "km refuses", maybe: "km refuses"},
	}
}

// With every habit of a key manager, mail through two relays arrives byte for byte, or
// waits at its sender for the right reason. No mail is returned, and none leaves in clear
// if the key manager has a key for it.
func TestHabits(t *testing.T) {
	kmtest.Each(t, wanted(), func(h kmtest.Habit, api string, w outcomes) {
		for name, tt := range map[string]struct{ rule, became, usual string }{
			"otp":           {`suite = "otp"`, w.otp, "OTP"},
			"aes-256-gcm":   {`suite = "aes-256-gcm"`, w.aes, "AES-256-GCM"},
			"auto":          {`suite = "auto"`, w.auto, "OTP"},
			"opportunistic": {`encrypt = "opportunistic"`, w.maybe, ""},
		} {
			became := cmp.Or(tt.became, tt.usual)
			if became == "" {
				continue
			}
			t.Run(api+"/"+h.Name+"/"+name, func(t *testing.T) {
				t.Parallel()
				tryHabit(t, h, api, tt.rule, became)
			})
		}
	})
}

func tryHabit(t *testing.T, h kmtest.Habit, api, rule, want string) {
	c := startChain(t, h, api, rule)
	if want == ends {
		<-c.encrypts.ended
		if err := c.encrypts.err; !errors.Is(err, cipher.ErrPad) || !strings.Contains(err.Error(), "keys of at most 128 bits") {
			t.Errorf("the relay ends with %v, want an ErrPad with the limit", err)
		}
		return
	}
	first, second, two := strings.Cut(want, ", then ")
	if !two {
		second = first
	}
	c.want("464 bytes", mailOf(464), first)
	c.want("then 3,000 bytes", mailOf(3000), second)
}

// A chain is a relay that encrypts, a relay that decrypts, and a mail system after each.
type chain struct {
	t                  *testing.T
	link               *kmtest.Link
	encrypts, decrypts *running
	sealed, mail       *mailbox
}

func startChain(t *testing.T, h kmtest.Habit, api, rule string) *chain {
	t.Helper()
	c := &chain{t: t, link: h.Start(t, api), sealed: startMailbox(t), mail: startMailbox(t)}
	c.encrypts = startRelay(t, c.link.A, c.sealed.address, rule)
	return c
}

// decrypt sends a message to the decrypting relay, and starts the relay first if
// necessary.
func (c *chain) decrypt(message string) (code int) {
	c.t.Helper()
	if c.decrypts == nil {
		c.decrypts = startRelay(c.t, c.link.B, c.mail.address, "")
	}
	return c.decrypts.send(message)
}

// want sends a message through the chain and checks its outcome.
func (c *chain) want(what, message, want string) {
	c.t.Helper()
	code := c.encrypts.send(message)
	said := c.encrypts.log.last()
	left := c.sealed.take()
	if code != 250 {
		if code != 451 || said.Reason != want || len(left) > 0 {
			c.t.Errorf("%s: answered %d, reason %q, and %d messages have left; want %q", what, code, said.Reason, len(left), want)
		}
		return
	}
	became := said.Suite
	if strings.Contains(strings.Join(left, ""), secret) {
		became = inClear
	}
	if became != want || len(left) != 1 || want != inClear && !strings.Contains(left[0], "Suite: "+want) {
		c.t.Errorf("%s: %d messages have left, as %q; want %q", what, len(left), became, want)
		return
	}
	if code := c.decrypt(left[0]); code != 250 {
		c.t.Errorf("%s: decryption answers %d, %+v", what, code, c.decrypts.log.last())
		return
	}
	// The message has Received fields before it.
	if got := c.mail.take(); len(got) != 1 || !strings.HasSuffix(got[0], message) {
		c.t.Errorf("%s: comes back as %q", what, got)
	}
}

// With an opportunistic rule and a stock that fills slowly, AES-256-GCM is used, which
// takes one key while a pad takes 16.
func TestHabitSmallStock(t *testing.T) {
	slow := kmtest.Habit{Options: kmsim.Options{Capacity: 10, Rate: 0.5}}
	for _, api := range []string{kmtest.ETSI, kmtest.QMail} {
		c := startChain(t, slow, api, "encrypt = \"opportunistic\"\nsuite = \"auto\"\n")
		for i := range 5 {
			c.want(fmt.Sprintf("%s: message %d", api, i), mailOf(464), "AES-256-GCM")
		}
	}
}

// The limits of a key manager change while relays run. With a rule for pads only, mail
// waits and the relay keeps running; with auto, AES-256-GCM is used.
func TestHabitComesLater(t *testing.T) {
	for _, api := range []string{kmtest.ETSI, kmtest.QMail} {
		for suite, want := range map[string]string{"otp": "no pad", "auto": "AES-256-GCM"} {
			c := startChain(t, kmtest.Named("none"), api, fmt.Sprintf("suite = %q\n", suite))
			c.want(api+", before", mailOf(464), "OTP")
			c.link.Become(kmtest.Named("keys said to be too short"))
			c.want(api+" with "+suite, mailOf(465), want)
			c.link.Become(kmtest.Named("none"))
			c.want(api+", after", mailOf(466), "OTP")
		}
	}
}

// Key managers have different ways of saying that they do not have a key. The message
// waits at its sender, since the key may still come.
func TestHabitUnknownKey(t *testing.T) {
	for status, reason := range map[int]string{0: "key not found", 401: "km refuses", 404: "key not found", 500: "key not found"} {
		for _, api := range []string{kmtest.ETSI, kmtest.QMail} {
			for _, suite := range []string{"otp", "aes-256-gcm"} {
				t.Run(fmt.Sprintf("%s/%d/%s", api, status, suite), func(t *testing.T) {
					t.Parallel()
					c := startChain(t, kmtest.Named("none"), api, fmt.Sprintf("suite = %q\n", suite))
					if code := c.encrypts.send(mailOf(464)); code != 250 {
						t.Fatalf("encryption answers %d", code)
					}
					c.link.Become(kmtest.Habit{Options: kmsim.Options{Quirks: kmsim.Quirks{UnknownKeyStatus: status}}})
					code := c.decrypt(c.sealed.take()[0])
					if said := c.decrypts.log.last(); code != 451 || said.Reason != reason {
						t.Errorf("answered %d, reason %q; want 451, %q", code, said.Reason, reason)
					}
					if got := c.mail.take(); len(got) > 0 {
						t.Errorf("delivered %q", got)
					}
				})
			}
		}
	}
}

// A relay is ready, with a warning, if the key manager makes keys on demand and reports
// a stock of 0, or if its limits allow no pad where none is required.
func TestHabitReadiness(t *testing.T) {
	for name, found := range map[string]string{
		"none":                          "There are keys for every peer",
		"stored_key_count 0, on demand": "says that it has none in stock",
		"keys said to be too short":     "limits allow no one-time pad for peer",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			link := kmtest.Named(name).Start(t, kmtest.ETSI)
			r := startRelay(t, link.A, startMailbox(t).address, "suite = \"auto\"\n[admin]\naddress = \"127.0.0.1:0\"\n")
			var body []byte
			for {
				answer, err := http.Get(r.log.admin() + "readyz")
				if err != nil {
					t.Fatal(err)
				}
				body, err = io.ReadAll(answer.Body)
				_ = answer.Body.Close()
				if err != nil {
					t.Fatal(err)
				}
				if !strings.Contains(string(body), "The checks have just begun") {
					if answer.StatusCode != http.StatusOK || !strings.Contains(string(body), found) {
						t.Errorf("HTTP %d: %s; want 200 and %q", answer.StatusCode, body, found)
					}
					return
				}
			}
		})
	}
}
