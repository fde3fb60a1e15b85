package sim

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
)

// A mail is what a user sends.
type mail struct {
	number   int
	from, to *site
	sender   string
	rcpts    []string
	data     []byte
}

func (m *mail) String() string { return fmt.Sprint("mail ", m.number) }

// token returns the part of a mail that nobody on the wire may see.
func token(number int) string { return fmt.Sprintf("secret-%d-", number) }

// newMail makes the mail of an event, always the same.
func (w *world) newMail(e event) *mail {
	r := w.dice.about("mail", e.N)
	from := r.IntN(len(w.sites))
	to := (from + 1 + r.IntN(len(w.sites)-1)) % len(w.sites)
	m := &mail{number: e.N, from: w.sites[from], to: w.sites[to]}
	m.sender = fmt.Sprintf("alice%d@%s.example", r.IntN(5), m.from.name)
	domain := m.to.name + ".example"
	for i := range one(r, 1, 1, 1, 2, 3) {
		m.rcpts = append(m.rcpts, fmt.Sprintf("u%d.%d@%s%s", m.number, i, one(r, "", "", "pad.", "auto.", "maybe."), domain))
	}
	size := one(r, 200, 500, 1000, 3000, 3000, 9000)
	if r.IntN(20) == 0 {
		size = 70_000 + r.IntN(60_000) // several frames or chunks
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "From: <%s>\r\nTo: <%s>\r\nSubject: %s\r\nMessage-ID: <%d@%s.example>\r\nDate: Sat, 1 Jan 2000 00:00:00 +0000\r\n\r\n",
		m.sender, m.rcpts[0], token(m.number), m.number, m.from.name)
	for b.Len() < size {
		line := fmt.Sprintf("%s%d\r\n", token(m.number), r.Uint64())
		b.WriteString(one(r, "", "", "", ".", "..", "From ") + strings.Repeat("x", r.IntN(40)) + line)
	}
	m.data = b.Bytes()
	return m
}

// numberOf returns the number of the mail that a recipient's address belongs to, -1:
// none.
func numberOf(rcpt string) int {
	text, _, _ := strings.Cut(strings.TrimPrefix(rcpt, "u"), ".")
	n, err := strconv.Atoi(text)
	if err != nil {
		return -1
	}
	return n
}
