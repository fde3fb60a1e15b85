package mailer

import (
	"strings"
	"testing"
)

// A client that sends more than intakeSize behind the end of DATA: the relay
// must not panic, which go-smtp does not catch while it reads a command.
func TestMuchBehindData(t *testing.T) {
	directions(t, func(t *testing.T, d Direction) {
		hop := startHop(t)
		r := startRelay(t, d, hop.addr())
		c := connect(t, r)
		c.begin("alice@a.example", "bob@b.example")
		const n = 1000
		c.send(stuffed(messageFor(t, d, r.km)) + strings.Repeat("NOOP\r\n", n))
		c.want("250", c.reply())
		for range n {
			c.want("250", c.reply())
		}
		c.want("250", c.cmd("NOOP")) // the first that is waited for
		hop.one()
	})
}

// The same without a connection.
func TestIntakeShrinks(t *testing.T) {
	in := newIntake(strings.NewReader("NOOP\r\n"))
	in.giveBack(make([]byte, intakeSize+1))
	in.discard(intakeSize + 1)
	line, err := in.line()
	if string(line) != "NOOP\r\n" || err != nil {
		t.Errorf("%q, %v", line, err)
	}
}
