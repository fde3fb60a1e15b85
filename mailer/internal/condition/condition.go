// Package condition says which messages are marked: by the envelope sender, or by a
// header field as any mail program may read it. If in doubt, a message is marked.
package condition

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/qkdmail/qkdmail/mailer/internal/address"
	"github.com/qkdmail/qkdmail/mailer/internal/readable"
	"github.com/qkdmail/qkdmail/mailer/internal/sender"
	"github.com/qkdmail/qkdmail/mailer/internal/smtpwire"
	"golang.org/x/text/unicode/norm"
)

// Bounds of a condition.
const (
	maxPattern = 1000 // bytes
	maxName    = 76   // bytes: a header field's name is on one line
)

// A Condition says which messages are marked. It does not change; several goroutines may
// use it at the same time.
type Condition struct {
	anySender bool
	addresses map[string]bool
	domains   address.Table[struct{}]
	field     string // in lower case; "": any message
	pattern   *regexp.Regexp
}

// New returns a condition on sender and header. nil means all senders, and "" any header
// or value, but sender or header must be given. wrong is called for whatever is wrong
// with From[i], Header and Pattern; the condition must not be used then.
func New(from []string, header, pattern string, wrong func(field, format string, args ...any)) *Condition {
	c := &Condition{
		anySender: from == nil, addresses: map[string]bool{}, domains: address.Table[struct{}]{}, field: strings.ToLower(header),
	}
	c.senders(from, wrong)
	notInName := func(r rune) bool { return r <= ' ' || r > '~' || r == ':' } // RFC 5322 §2.2
	switch {
	case header == "" && pattern != "":
		wrong("Header", "missing: the field that the pattern is looked for in")
	case len(header) > maxName || strings.ContainsFunc(header, notInName):
		wrong("Header", "%q must be the name of a header field, without a colon", readable.Short(header))
	}
	if len(pattern) > maxPattern {
		wrong("Pattern", "longer than %d bytes", maxPattern)
		return c
	}
	var err error
	if c.pattern, err = regexp.Compile(pattern); err != nil {
		wrong("Pattern", "%v", err)
	}
	return c
}

func (c *Condition) senders(from []string, wrong func(field, format string, args ...any)) {
	switch {
	case from == nil && c.field == "":
		wrong("From", "missing: senders, a header field or both")
	case from != nil && len(from) == 0:
		wrong("From", "empty: leave it out for all senders")
	}
	for i, text := range from {
		field := fmt.Sprintf("From[%d]", i)
		domain := text[strings.LastIndexByte(text, '@')+1:]
		pattern, err := address.Pattern(domain)
		single := len(domain) < len(text)
		switch {
		case err != nil:
			wrong(field, "%q %v, or an address", readable.Short(text), err)
		case pattern == address.Default:
			wrong(field, "%q can be the domain of a rule only", text)
		case strings.HasPrefix(text, "*@"):
			wrong(field, "%q is not a pattern, the domain alone is: %q", readable.Short(text), pattern)
		case single && (!isAddress(text) || strings.HasPrefix(pattern, "*.") || pattern == address.AnyLiteral):
			wrong(field, "%q must be one address like \"ceo@a.example\", without a name or < >", readable.Short(text))
		case single:
			c.addresses[normal(text)] = true
		default:
			c.domains[pattern] = struct{}{}
		}
	}
}

func isAddress(text string) bool {
	mailbox, rest, err := smtpwire.Path("<"+text+">", "")
	return err == nil && rest == "" && !strings.HasPrefix(text, "@") && !strings.HasPrefix(mailbox, "@")
}

// normal returns an address for comparison. The case of the local part does not matter:
// few mail systems distinguish it, and if in doubt a message is marked.
func normal(addr string) string {
	if mailbox, rest, err := smtpwire.Path("<"+addr+">", ""); err == nil && rest == "" {
		addr = mailbox // without the quotes
	}
	local, domain := smtpwire.SplitMailbox(addr)
	return strings.ToLower(norm.NFC.String(local)) + "@" + address.Normal(domain)
}

// A Message is what conditions look at. The fields that they name are read once.
type Message struct {
	from   string // normalised
	header []byte
	read   map[string]text
}

// A text is what the fields with one name may say.
type text struct {
	readings []string
	all      bool // readings has all that they may say
}

// NewMessage returns a message with this envelope sender, "" for none, and this header,
// which must not change.
func NewMessage(from string, header []byte) *Message {
	return &Message{from: normal(from), header: header, read: map[string]text{}}
}

func (m *Message) fields(name string) text {
	t, done := m.read[name]
	if !done {
		t.readings, t.all = sender.Readings(m.header, name)
		m.read[name] = t
	}
	return t
}

// Marks reports whether a message meets the condition. If several fields have the name,
// one is enough. A field that can't be read may say anything, so it is enough too.
func (c *Condition) Marks(m *Message) bool {
	if !c.anySender {
		_, ok := c.domains.Find(m.from[strings.LastIndexByte(m.from, '@')+1:])
		if !ok && !c.addresses[m.from] {
			return false
		}
	}
	if c.field == "" {
		return true
	}
	t := m.fields(c.field)
	return !t.all || slices.ContainsFunc(t.readings, c.pattern.MatchString)
}
