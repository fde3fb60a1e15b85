package mailer

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/emersion/go-smtp"
)

// NewSession returns a session whose transactions are delivered.
func (h *NextHop) NewSession(*smtp.Conn) (smtp.Session, error) { return &hopSession{hop: h}, nil }

// A hopSession is a transaction at the next hop.
type hopSession struct {
	hop    *NextHop
	conn   *hopConn
	failed error // of conn, which is closed; the transaction is over
	rcpts  []string
	answer string // of the next hop, to DATA
}

// Mail begins a transaction.
func (s *hopSession) Mail(from string, opts *smtp.MailOptions) error {
	s.Reset()
	if err := s.hop.acquire(); err != nil {
		return err
	}
	defer func() {
		if s.conn == nil { // also after a panic, which go-smtp outlives
			s.hop.release()
		}
	}()
	var err error
	s.conn, err = s.begin(from, opts)
	return err
}

// begin sends MAIL. A connection that was kept may have been closed by the
// other side meanwhile: then it is tried again on a new one, once.
func (s *hopSession) begin(from string, opts *smtp.MailOptions) (*hopConn, error) {
	for again := false; ; again = true {
		conn, err := s.hop.get(context.Background(), again)
		if err != nil {
			return nil, err
		}
		err = s.mail(conn, from, opts)
		var own *refusal
		switch {
		case err == nil:
			return conn, nil
		case errors.As(err, &own), isReply(err):
			s.abandon(conn)
			return nil, err
		}
		_ = conn.Close()
		if conn.fresh {
			return nil, s.lost(err)
		}
	}
}

// mail sends MAIL. The client's SIZE is that of another message; RFC 1870 lets
// it be left out.
func (s *hopSession) mail(c *hopConn, from string, opts *smtp.MailOptions) error {
	o := smtp.MailOptions{}
	if opts != nil {
		o = *opts
	}
	o.Size, o.Auth = 0, nil
	if o.UTF8 {
		if ok, _ := c.Extension("SMTPUTF8"); !ok {
			if err := c.Noop(); err != nil {
				return err // it says so of a connection that is gone, too
			}
			return refuse(550, smtp.EnhancedCode{5, 6, 7}, "smtputf8", "The next hop does not support SMTPUTF8")
		}
	}
	return c.Mail(quoteLocal(from), &o)
}

// abandon ends a transaction before its DATA.
func (s *hopSession) abandon(c *hopConn) {
	if err := c.Reset(); err != nil {
		_ = c.Close()
		return
	}
	s.hop.put(c)
}

// lost is the refusal where the connection failed, or the next hop is closing
// it: RFC 5321 §3.8. The mail system before us keeps its own connection.
func (s *hopSession) lost(err error) error {
	if isReply(err) {
		return err
	}
	return refuse(451, smtp.EnhancedCode{4, 4, 2}, "next hop lost", "The connection to the next hop was lost, try again later").because(err)
}

// Rcpt passes a recipient and the answer on.
func (s *hopSession) Rcpt(to string, opts *smtp.RcptOptions) error {
	if s.conn == nil {
		return s.over()
	}
	if err := s.conn.Rcpt(quoteLocal(to), opts); err != nil {
		return s.refused(err)
	}
	s.rcpts = append(s.rcpts, to)
	return nil
}

// Data delivers a message; the answer to it is the error. If r fails the
// connection is dropped before the final dot, and the error is r's.
func (s *hopSession) Data(r io.Reader) error {
	_, err := s.data(copyFrom(r))
	return err
}

// LMTPData is Data with an answer for each recipient.
func (s *hopSession) LMTPData(r io.Reader, status smtp.StatusCollector) error {
	answers, err := s.data(copyFrom(r))
	for _, rcpt := range s.rcpts {
		if e, ok := answers[rcpt]; ok {
			status.SetStatus(rcpt, e)
		} else {
			status.SetStatus(rcpt, err)
		}
	}
	return err
}

func copyFrom(r io.Reader) producer {
	return func(dst io.Writer) error { return copyBlocks(dst, r) }
}

// data returns the refusals of single recipients, which LMTP has, and else one
// error for all.
func (s *hopSession) data(produce producer) (map[string]error, error) {
	c := s.conn
	if c == nil {
		return nil, s.over()
	}
	w, err := c.Data()
	if err != nil {
		return nil, s.refused(err)
	}
	s.conn = nil
	defer s.hop.release()
	out := newDataWriter(c.conn)
	defer out.free()
	if err := s.upload(out, produce); err != nil {
		_ = c.Close()
		return nil, err
	}
	c.conn.late = out.rest()
	answers, err := s.finish(w)
	if err == nil || isReply(err) {
		s.hop.put(c)
	} else {
		_ = c.Close()
	}
	if err != nil {
		err = s.lost(err)
	}
	return answers, err
}

// isReply reports whether err is a reply of the next hop, which goes on.
func isReply(err error) bool {
	var reply *smtp.SMTPError
	return errors.As(err, &reply) && reply.Code != 421
}

// upload writes the octets of DATA, but for the last ones. An error of the
// connection is told before that of produce, which may come from it.
func (s *hopSession) upload(out *dataWriter, produce producer) error {
	err := recovered(func() error { return produce(out) })
	if out.err != nil {
		return s.lost(out.err)
	}
	return err
}

// Answer returns what the next hop said to the last message, with its queue ID
// as a rule.
func (s *hopSession) Answer() string { return s.answer }

// finish sends the final dot and reads the answers.
func (s *hopSession) finish(w *smtp.DataCommand) (map[string]error, error) {
	if !s.hop.opts.LMTP {
		response, err := w.CloseWithResponse()
		if err == nil {
			s.answer = printable(response.StatusText)
		}
		return nil, err
	}
	responses, err := w.CloseWithLMTPResponse()
	answers := map[string]error{}
	for rcpt, r := range responses {
		answers[rcpt] = nil
		s.answer = printable(r.StatusText)
	}
	var refusals smtp.LMTPDataError
	errors.As(err, &refusals)
	for rcpt, e := range refusals {
		answers[rcpt] = s.lost(e)
	}
	// As the client that asked spells them.
	for _, rcpt := range s.rcpts {
		if a, ok := answers[quoteLocal(rcpt)]; ok {
			answers[rcpt] = a
		}
	}
	if all, ok := err.(smtp.LMTPDataError); ok {
		err = worst(all)
	} else if err != nil { // for those without an answer; refusals may be joined to it
		err = fmt.Errorf("answers are missing: %v", err)
	}
	return answers, err
}

// worst is the refusal for who asks for one answer only: a temporary one, if
// there is one, since the mail must be sent again then.
func worst(refusals smtp.LMTPDataError) error {
	var refusal *smtp.SMTPError
	for _, e := range refusals {
		if refusal == nil || e.Code < refusal.Code {
			refusal = e
		}
	}
	return refusal
}

// refused is what a command is answered that the next hop has refused or not
// answered. In the second case the next command must not wait for it, too.
func (s *hopSession) refused(err error) error {
	reply := s.lost(err)
	if !isReply(err) {
		_ = s.conn.Close()
		s.conn, s.failed = nil, reply
		s.hop.release()
	}
	return reply
}

// over is the refusal where there is no transaction, or none any more.
func (s *hopSession) over() error {
	if s.failed != nil {
		return s.failed
	}
	return refuse(503, smtp.EnhancedCode{5, 5, 1}, "sequence", "No transaction")
}

// Reset ends the transaction.
func (s *hopSession) Reset() {
	if s.conn != nil {
		s.abandon(s.conn)
		s.conn = nil
		s.hop.release()
	}
	s.failed, s.rcpts, s.answer = nil, nil, ""
}

// Logout ends the session.
func (s *hopSession) Logout() error {
	s.Reset()
	return nil
}
