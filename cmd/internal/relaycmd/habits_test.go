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

// What can become of mail beside a suite and a 451, which are in the tables as "OTP",
// "AES-256-GCM" and the reason that the log has for the 451.
const (
	inClear = "in clear"
	ends    = "the relay ends"
)

// outcomes say what becomes of a message of 464 octets, and then of one of 3,000, at a
// relay whose rule has one of these suites. One text is for both; "" is the suite, and
// the pad with auto.
type outcomes struct {
	otp, aes, auto string
	maybe          string // auto, and the rule is opportunistic; "": not tried
}

// same is where the suite makes no difference.
func same(became string) outcomes { return outcomes{became, became, became, became} }

func wanted() map[string]outcomes {
	const (
		aes   = "AES-256-GCM"
		empty = "no key left"
	)
	// There are enough for AES-256-GCM, and not for a pad.
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
		// The first pad takes both keys in vain, so that its message must not leave in
		// clear. The second gets none.
		"a stock of two, key by key": {otp: empty, auto: empty, maybe: empty + ", then " + inClear},

		"a stock of 15, as it is": few,
		// They are in the pool then, and AES-256-GCM finds one there.
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

// Two relays, as they are configured and run, at key managers with each habit: mail
// arrives octet for octet, or waits at its sender for a reason that fits. None is
// returned, and none leaves in clear where the key manager has a key for it.
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
			t.Errorf("the relay ends with %v, want an ErrPad that tells the limit", err)
		}
		return
	}
	first, second, two := strings.Cut(want, ", then ")
	if !two {
		second = first
	}
	c.want("464 octets", mailOf(464), first)
	c.want("3,000 octets after them", mailOf(3000), second)
}

// A chain is a relay that encrypts, a relay that decrypts, and mail systems behind
// both.
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

// decrypt sends what has left to the relay that decrypts, which is started when it is
// first needed.
func (c *chain) decrypt(message string) (code int) {
	c.t.Helper()
	if c.decrypts == nil {
		c.decrypts = startRelay(c.t, c.link.B, c.mail.address, "")
	}
	return c.decrypts.send(message)
}

// want sends a message through the chain and says what should become of it.
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
	// Before the message are lines of Received.
	if got := c.mail.take(); len(got) != 1 || !strings.HasSuffix(got[0], message) {
		c.t.Errorf("%s: comes back as %q", what, got)
	}
}

// A stock that fills slowly: a rule that allows clear text takes AES-256-GCM where one
// key is enough for that, though a pad takes 16.
func TestHabitSmallStock(t *testing.T) {
	slow := kmtest.Habit{Options: kmsim.Options{Capacity: 10, Rate: 0.5}}
	for _, api := range []string{kmtest.ETSI, kmtest.QMail} {
		c := startChain(t, slow, api, "encrypt = \"opportunistic\"\nsuite = \"auto\"\n")
		for i := range 5 {
			c.want(fmt.Sprintf("%s: message %d", api, i), mailOf(464), "AES-256-GCM")
		}
	}
}

// The limits of a key manager change while relays run. A rule for pads alone keeps its
// mail back and the relay goes on; with auto it is AES-256-GCM.
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

// The key of an arriving message is not at the key manager, which has its own way of
// saying so. The message waits at its sender: the key may come.
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

// Readiness at key managers that make keys when they are asked for and say 0, and at
// those whose limits allow no pad where one is not insisted on: ready, with a warning.
func TestHabitReadiness(t *testing.T) {
	for name, found := range map[string]string{
		"none":                          "There are keys for all peers",
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
