package nexthop

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/emersion/go-smtp"
	"github.com/qkdmail/qkdmail/mailer/internal/smtpwire"
)

// errForeign: a session is not the hop's own. A wrapper around it, say for logging, could
// lose answers.
var errForeign = errors.New("a message for a session that is not the next hop's own")

// EightBit reports whether a session of h takes 8-bit content: the servers behind one
// name may differ. It is known when the session has a recipient.
func (h *Hop) EightBit(session smtp.Session) bool {
	s, ok := session.(*Session)
	return ok && s.eightBit
}

// HandOver hands the message that write writes to a session of h. With LMTP it returns
// the answers for the recipients, in the order in which they were accepted, and err is
// what one answer for all would be. said is what the next hop said with each 250, usually
// its queue ID: one text for each answer, or one for all.
//
// DATA is sent once a large piece of the message is there, or all of it. If write fails
// before that, the next hop sees nothing unusual: Reset ends the transaction. If it fails
// later, the connection is dropped before the final dot, so that no half message is
// delivered. err is then write's.
func (h *Hop) HandOver(session smtp.Session, write func(dst io.Writer) error) (answers []error, said []string, err error) {
	s, ok := session.(*Session)
	if !ok || s.hop != h {
		return nil, nil, errForeign
	}
	return s.handOver(write)
}

func (s *Session) handOver(write func(dst io.Writer) error) (answers []error, said []string, err error) {
	c := s.conn
	if c == nil {
		return nil, nil, s.over()
	}
	body := &body{conn: c}
	out := smtpwire.NewDataWriter(body)
	usable := false
	defer func() { // also after a panic of write: a connection in the middle of DATA must end
		out.Free()
		if s.conn == nil {
			s.end(c, usable)
		}
	}()
	s.conn, s.begun = nil, false
	err = write(out)
	if err == nil && out.Err() == nil {
		_ = out.Close()
	}
	if out.Err() != nil {
		err = out.Err() // the cause of write's
	}
	if err != nil {
		if !body.begun && (out.Err() == nil || refuses(err)) {
			s.conn = c
		}
		return nil, nil, err
	}
	c.messages++
	if s.hop.opts.LMTP {
		answers, said, usable = s.answers(c)
		return answers, said, worst(answers)
	}
	line, usable, err := s.readAnswer(c)
	return nil, []string{line}, err
}

// end ends the use of a connection after a message.
func (s *Session) end(c *conn, usable bool) {
	if usable {
		s.hop.put(c)
	} else {
		_ = c.Close()
	}
	s.hop.release()
}

// A body writes a message to a connection, after DATA.
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
		err = fmt.Errorf("%w: %w", errLost, err)
	}
	return n, err
}

func (b *body) begin() error {
	r, err := b.conn.command("DATA")
	if err := outcome(r, err, 354); err != nil {
		return err
	}
	b.begun = true
	if b.conn.spoken() { // it would be taken for the reply to the message
		return fmt.Errorf("%w: a reply to nothing", errLost)
	}
	return nil
}

// maxSaid is how much of a reply to a message is kept, in bytes; its code and the queue
// ID come first.
const maxSaid = 400

// readAnswer reads the reply to a message, and reports whether the connection can be used
// again. A reply that begins with 250 or the like means that the message was delivered,
// however it goes on: if the client got a refusal, it would send the message again.
func (s *Session) readAnswer(c *conn) (said string, usable bool, err error) {
	r, rerr := c.replyWithin(s.hop.opts.AfterDot)
	err = outcome(r, rerr, 250)
	if isLike(r.First, 250) {
		if err != nil {
			return "", false, nil
		}
		line := r.Line()
		return strings.Clone(line[:min(len(line), maxSaid)]), true, nil // without the rest of a long reply
	}
	return "", refuses(err), err
}

// answers reads a reply for each recipient: RFC 2033 §4.2.
func (s *Session) answers(c *conn) (answers []error, said []string, usable bool) {
	usable = true
	for range s.rcpts {
		line, err := "", fmt.Errorf("%w: no reply for this recipient", errLost)
		if usable {
			line, usable, err = s.readAnswer(c)
		}
		answers, said = append(answers, err), append(said, line)
	}
	return answers, said, usable
}

// worst returns the one answer for all recipients: a temporary failure if there is one,
// since the mail must be sent again then.
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
