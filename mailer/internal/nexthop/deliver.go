package nexthop

import (
	"errors"
	"fmt"
	"io"

	"github.com/emersion/go-smtp"
	"github.com/qkdmail/qkdmail/mailer/internal/smtpwire"
)

// Deliver delivers the message that produce writes. With LMTP the answers for the
// recipients, in the order in which they were accepted, come with the error that
// one answer for all would be.
//
// DATA is sent once there is much of the message, or all of it. If produce fails
// before, the next hop sees nothing unusual: Reset ends the transaction. If it
// fails later, the connection is dropped before the final dot: nothing half is
// delivered. The error is produce's then.
func (s *Session) Deliver(produce func(dst io.Writer) error) (answers []error, err error) {
	c := s.conn
	if c == nil {
		return nil, s.over()
	}
	body := &body{conn: c}
	out := smtpwire.NewDataWriter(body)
	usable := false
	defer func() { // also after a panic of produce: nothing may be left in the middle of DATA
		out.Free()
		if s.conn == nil {
			s.end(c, usable)
		}
	}()
	s.conn, s.begun = nil, false
	err = produce(out)
	if err == nil && out.Err() == nil {
		_ = out.Close()
	}
	if out.Err() != nil {
		err = out.Err() // produce's may come from it
	}
	if err != nil {
		if !body.begun && (out.Err() == nil || refuses(err)) {
			s.conn = c
		}
		return nil, err
	}
	c.messages++
	if s.hop.opts.LMTP {
		answers, usable = s.answers(c)
		return answers, worst(answers)
	}
	err, usable = s.readAnswer(c)
	return nil, err
}

// end gives up a connection after a message.
func (s *Session) end(c *conn, usable bool) {
	if usable {
		s.hop.put(c)
	} else {
		_ = c.Close()
	}
	s.hop.release()
}

// A body is where the message goes: to the connection, after DATA.
type body struct {
	conn  *conn
	begun bool // the next hop has taken DATA
}

func (b *body) Write(p []byte) (int, error) {
	if !b.begun {
		if err := b.begin(); err != nil {
			return 0, err
		}
	}
	n, err := b.conn.Write(p)
	if err != nil {
		err = fmt.Errorf("%w: %w", ErrLost, err)
	}
	return n, err
}

func (b *body) begin() error {
	r, err := b.conn.command("DATA")
	if err := outcome(r, err, 354); err != nil {
		return err
	}
	b.begun = true
	if b.conn.spoken() { // it would be taken for the answer to the message
		return fmt.Errorf("%w: a reply to nothing", ErrLost)
	}
	return nil
}

// readAnswer reads the reply to a message, and reports whether the connection can
// be used again. A reply that begins with 250 means that the message was delivered,
// however it goes on: a client that is told otherwise sends it again.
func (s *Session) readAnswer(c *conn) (err error, usable bool) {
	r, rerr := c.replyWithin(s.hop.opts.AfterDot)
	err = outcome(r, rerr, 250)
	if r.First == 250 {
		s.answer = r.Text()
		return nil, err == nil
	}
	return err, refuses(err)
}

// answers reads a reply for each recipient: RFC 2033 §4.2.
func (s *Session) answers(c *conn) (answers []error, usable bool) {
	usable = true
	for range s.rcpts {
		if !usable {
			answers = append(answers, fmt.Errorf("%w: no reply for this recipient", ErrLost))
			continue
		}
		var err error
		err, usable = s.readAnswer(c)
		answers = append(answers, err)
	}
	return answers, usable
}

// worst is the error for those who take one answer for all recipients: a temporary
// one if there is one, since the mail must be sent again then.
func worst(answers []error) error {
	var found error
	for _, err := range answers {
		if err == nil {
			continue
		}
		reply, ok := errors.AsType[*smtp.SMTPError](err)
		if !ok || reply.Code < 500 {
			return err
		}
		found = err
	}
	return found
}
