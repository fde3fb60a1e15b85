package mailer

import (
	"slices"
	"strings"

	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/mailer/internal/condition"
)

// A Trigger raises the protection of marked messages, whoever gets them. It never lowers
// it. From, Header or both say which messages are marked; if both are set, both must
// match.
type Trigger struct {
	Name string // for the log
	// From are envelope senders: "ceo@a.example", or domains as in a Rule. The null
	// sender matches none. nil: all.
	From []string
	// Header is the name of a header field, and Pattern an RE2 expression to be found in
	// its value; "" is found in any. The value is on one line, without blanks around it,
	// and its encoded words (RFC 2047) are decoded. If there are several such fields, one
	// is enough. What can't be decoded matches, and so do fields of more than 8 KiB.
	Header, Pattern string

	Encrypt bool // never and opportunistic become required; without a peer mail is refused
	Pad     bool // mail that has a peer must be encrypted, and under OTP
}

// A trigger is a Trigger that has been checked.
type trigger struct {
	*Trigger
	on *condition.Condition
}

func (m *policyMaker) triggers() {
	const most = 100 // each may have to look at the header
	if len(m.o.Triggers) > most {
		m.wrong("Triggers", "", "more than %d", most)
		return
	}
	names := map[string]int{}
	for i, t := range m.o.Triggers {
		at := entry("Triggers", i)
		m.name("Triggers", i, t.Name, "trigger", names)
		if !t.Encrypt && !t.Pad {
			m.wrong(at+".Encrypt", "", "missing: the trigger asks for neither encryption nor a pad")
		}
		on := condition.New(t.From, t.Header, t.Pattern, func(field, format string, args ...any) {
			m.wrong(at+"."+field, "", format, args...)
		})
		m.p.triggers = append(m.p.triggers, trigger{&t, on})
	}
}

// A raise is what triggers want for a message.
type raise struct {
	names        []string // of the triggers
	encrypt, pad bool
}

// Raised returns the policy that applies to a message from this envelope sender, with
// this header as far as it is known. No route in it has less protection than in p.
func (p *Policy) Raised(from string, header []byte) *Policy {
	if len(p.triggers) == 0 {
		return p
	}
	raised, m := *p, condition.NewMessage(from, header)
	r := &raised.raise
	r.names = slices.Clone(r.names)
	for _, t := range p.triggers {
		if t.on.Marks(m) && !slices.Contains(r.names, t.Name) {
			r.names = append(r.names, t.Name)
			r.encrypt, r.pad = r.encrypt || t.Encrypt, r.pad || t.Pad
		}
	}
	return &raised
}

// of returns a route, raised.
func (r *raise) of(route Route) Route {
	if len(r.names) == 0 {
		return route
	}
	route.Trigger = strings.Join(r.names, ",")
	if r.encrypt {
		route.Mode = Required
	}
	if r.pad && route.Peer != nil {
		// Required: with no AES-256-GCM to fall back on, opportunistic mail would leave in clear.
		route.Mode, route.Suite, route.PadLimit = Required, route.Peer.outgoing(cipher.SuiteOTP), 0
	}
	return route
}
