// Package outer compares the header fields outside an encrypted message with those of the
// message inside. Those outside are not authenticated.
package outer

import (
	"net/mail"
	"slices"
	"strings"

	"github.com/qkdmail/qkdmail/cipher/rawheader"
	"github.com/qkdmail/qkdmail/mailer/internal/message"
)

// A field is a field of an encrypted message that should match that of the message
// inside.
type field struct {
	name string
	read func(text string) string // for comparison; "" for what can't be read
	text string
}

// Fields are those of one message, as far as they are kept.
type Fields [4]field

// maxKept bounds what is kept of them, in bytes. No writer puts that much outside.
const maxKept = 64 << 10

// Of returns the fields of an encrypted message.
func Of(outer *message.Reader) Fields {
	c := Fields{{name: "From", read: addressSet}, {name: "To", read: addressSet}, {name: "Date", read: instant}, {name: "Message-ID", read: messageID}}
	left := maxKept
	for i := range c {
		if text := outer.Text(c[i].name); len(text) <= left {
			c[i].text = text
			left -= len(text)
		}
	}
	return c
}

// Differing returns the names of the fields that differ outside and inside, and so may
// have deceived filters and people. A field that can't be read inside was left out or
// made up outside, and is not compared.
func (c Fields) Differing(inner *message.Reader) []string {
	var names []string
	for _, f := range c {
		in := inner.Text(f.name)
		if in == f.text {
			continue // nearly always; parsing takes longer
		}
		if was := f.read(in); was != "" && f.read(f.text) != was {
			names = append(names, strings.ToLower(f.name))
		}
	}
	return names
}

// instant returns a date for comparison, "" where it can't be read.
func instant(text string) string {
	t, _, err := rawheader.ParseDate(text)
	if err != nil {
		return ""
	}
	return t.UTC().String()
}

// addressSet returns the addresses of a field for comparison, "" where it does not parse.
// UTF-8 addresses are outside only in SMTPUTF8 transactions.
func addressSet(text string) string {
	list, err := mail.ParseAddressList(text)
	if err != nil {
		return ""
	}
	var set []string
	for _, a := range list {
		set = append(set, strings.ToLower(a.Address))
	}
	slices.Sort(set)
	if strings.ContainsFunc(strings.Join(set, ""), func(r rune) bool { return r > 0x7E }) {
		return ""
	}
	return strings.Join(set, ",")
}

// messageID returns a message ID that a writer copies outside, "" for any other.
func messageID(text string) string {
	if _, err := mail.ParseAddress(text); err != nil || !strings.HasPrefix(text, "<") || !strings.HasSuffix(text, ">") {
		return ""
	}
	return text
}
