package smtpserver

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/qkdmail/qkdmail/mailer/internal/smtpwire"
)

// A dataState is how far a message has come.
type dataState struct {
	open    bool // its end has not come yet
	lines   smtpwire.Unstuffer
	waited  time.Duration // for the client
	size    int64         // bytes that have come
	refused bool          // the answer is a refusal, for one recipient at least
}

// takeData carries out DATA, RFC 5321 §4.1.1.4 and RFC 2033 §4.2.
func (c *Conn) takeData() {
	if len(c.rcpts) == 0 { // or if there was no MAIL
		c.refuse(503, smtp.EnhancedCode{5, 5, 1}, "No recipients")
		return
	}
	if err := c.session.BeginData(); err != nil {
		c.done(err, smtp.NoEnhancedCode, "")
		return
	}
	c.reply(354, smtp.NoEnhancedCode, "End data with <CR><LF>.<CR><LF>")
	c.data = dataState{open: true}
	defer c.endData()
	if c.server.LMTP {
		c.lmtpData()
		return
	}
	if err := c.session.Data(dataReader{c}); c.drain() {
		c.answer(err, c.rcpts...)
	}
}

// endData ends the transaction. After a refusal the next hop may have to be reset; the
// client must not wait for that.
func (c *Conn) endData() {
	if c.data.refused {
		_ = c.Flush()
	}
	c.reset()
}

// answer answers for a message, to these recipients: in the next hop's words if the
// message was taken.
func (c *Conn) answer(err error, rcpts ...string) {
	c.data.refused = c.data.refused || err != nil
	code, said, ok := smtpwire.EnhancedCode(c.session.Said(rcpts...), 2)
	if !ok {
		code = smtp.EnhancedCode{2, 0, 0}
	}
	c.done(err, code, cmp.Or(said, "Ok"))
}

// lmtpData answers for each recipient.
func (c *Conn) lmtpData() {
	answers := answers{}
	err := c.session.LMTPData(dataReader{c}, answers)
	if !c.drain() {
		return
	}
	for _, rcpt := range c.rcpts {
		answer := err
		if list := answers[rcpt]; len(list) > 0 {
			answer, answers[rcpt] = list[0], list[1:]
		}
		c.answer(answer, rcpt)
	}
}

// answers are a session's answers by recipient, who may have several.
type answers map[string][]error

// SetStatus takes an answer.
func (a answers) SetStatus(rcpt string, err error) { a[rcpt] = append(a[rcpt], err) }

// drain reads what a session has left of DATA, which would be taken for commands, and
// reports whether the end of DATA came.
func (c *Conn) drain() bool {
	_, err := io.Copy(io.Discard, dataReader{c})
	if err != nil {
		_ = c.Close()
	}
	return err == nil
}

// A dataReader reads the DATA of a client, without the dots that SMTP adds. It ends with
// io.EOF after the lone dot, and with io.ErrUnexpectedEOF if the connection ends before.
type dataReader struct{ c *Conn }

func (r dataReader) Read(p []byte) (int, error) {
	c := r.c
	for c.data.open {
		if len(p) == 0 {
			return 0, nil
		}
		n, err := c.dataPiece(p)
		if err != nil {
			return 0, c.dataLost(err)
		}
		if n > 0 {
			return n, nil
		}
	}
	return 0, io.EOF
}

// dataPiece takes what has come of DATA, and waits if nothing has. If p has room, what
// comes is read straight into p, past the input buffer.
func (c *Conn) dataPiece(p []byte) (n int, err error) {
	var used int
	var end bool
	switch {
	case len(c.in.buffered()) > 0:
		n, used, end = c.data.lines.Next(p, c.in.buffered())
		c.in.discard(used)
	case len(p) < inputSize:
		return 0, c.waitData(func() error { return c.in.fill() })
	default:
		var got int
		if err := c.waitData(func() (err error) { got, err = io.ReadAtLeast(c.conn, p[1:], 1); return err }); err != nil {
			return 0, err
		}
		n, used, end = c.data.lines.Next(p, p[1:1+got])
		c.in.giveBack(p[1+used : 1+got])
		clear(p[n : 1+got])
	}
	c.data.size += int64(used)
	c.data.open = !end
	return n, nil
}

// ErrTooSlow: a client sends DATA more slowly than the least rate.
var ErrTooSlow = fmt.Errorf("the client sends too slowly: %w", os.ErrDeadlineExceeded)

// waitData waits for more of DATA, from a client that is fast enough.
func (c *Conn) waitData(read func() error) error {
	if spent := c.data.waited - c.settings.DataIdle; spent > 0 && c.data.size < int64(spent.Seconds()*float64(c.settings.MinRate)) {
		return ErrTooSlow
	}
	if err := c.Flush(); err != nil {
		return err
	}
	start := time.Now()
	if wait := c.settings.DataIdle; wait > 0 {
		if err := c.conn.SetReadDeadline(start.Add(wait)); err != nil {
			return err
		}
	}
	err := read()
	c.data.waited += time.Since(start) // without the time of the next hop and the key manager
	return err
}

// dataLost ends a connection whose DATA has stopped. A server that has waited too long
// says so: RFC 5321 §4.5.3.2.
func (c *Conn) dataLost(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		c.hangUp(421, smtp.EnhancedCode{4, 4, 2}, "The rest of the message did not come")
	}
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
