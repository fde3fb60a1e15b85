package mailer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/emersion/go-smtp"
)

// NewSession returns a session whose transactions are delivered.
func (h *NextHop) NewSession(c *smtp.Conn) (smtp.Session, error) {
	return &hopSession{hop: h, client: frontOf(c)}, nil
}

// A hopSession is a transaction at the next hop. It begins there with the first
// recipient: MAIL and RCPT take one round trip then.
type hopSession struct {
	hop    *NextHop
	client *front // nil: none of ours
	begun  bool   // MAIL came
	from   string
	opts   smtp.MailOptions
	conn   *hopConn // once the next hop has taken MAIL
	failed error    // why the transaction is over
	rcpts  []string
	answer string // of the next hop, to DATA
}

// Mail begins a transaction. What the next hop says to it is the answer to the
// first Rcpt, and to all others if it is a refusal.
func (s *hopSession) Mail(from string, opts *smtp.MailOptions) error {
	s.Reset()
	s.begun, s.from = true, from
	if opts != nil {
		s.opts = *opts
	}
	// The client's SIZE is that of another message; RFC 1870 lets it be left out.
	s.opts.Size, s.opts.Auth = 0, nil
	return nil
}

// Rcpt passes a recipient and the answer on.
func (s *hopSession) Rcpt(to string, opts *smtp.RcptOptions) error {
	var err error
	switch {
	case s.conn != nil:
		err = s.another(to, opts)
	case !s.begun || s.failed != nil:
		return s.over()
	default:
		err = s.begin(to, opts)
	}
	if err == nil {
		s.rcpts = append(s.rcpts, to)
	}
	return err
}

// begin begins the transaction at the next hop. A connection that was kept may
// have been closed by the other side meanwhile: then it is tried again on a new
// one, once.
func (s *hopSession) begin(to string, opts *smtp.RcptOptions) error {
	if s.failed = s.hop.acquire(); s.failed != nil {
		return s.failed
	}
	defer func() {
		if s.conn == nil { // also after a panic, which go-smtp outlives
			s.hop.release()
		}
	}()
	for again := false; ; again = true {
		c, err := s.hop.get(context.Background(), again)
		if err != nil {
			s.failed = err
			return err
		}
		mail, rcpt := s.first(c, to, opts)
		var own *refusal
		switch {
		case mail == nil && (rcpt == nil || isReply(rcpt)):
			s.conn = c
			return rcpt
		case errors.As(mail, &own), isReply(mail):
			s.abandon(c)
			s.failed = mail
			return mail
		}
		_ = c.Close()
		if c.fresh || mail == nil {
			s.failed = s.lost(cmp.Or(mail, rcpt))
			return s.failed
		}
	}
}

// first sends MAIL and a recipient, together where the next hop offers
// PIPELINING, and returns the answers. Where the connection was lost that is the
// answer to MAIL, unless MAIL was answered before.
func (s *hopSession) first(c *hopConn, to string, opts *smtp.RcptOptions) (mail, rcpt error) {
	pipelining := c.pipelining()
	if s.opts.UTF8 {
		if ok, _ := c.Extension("SMTPUTF8"); !ok {
			if err := c.Noop(); err != nil {
				return err, nil // it says so of a connection that is gone, too
			}
			return refuse(550, smtp.EnhancedCode{5, 6, 7}, "smtputf8", "The next hop does not support SMTPUTF8"), nil
		}
	}
	c.wire.keep = pipelining
	if err := c.Mail(quoteLocal(s.from), &s.opts); err != nil {
		return err, nil
	}
	rcpt = s.rcpt(c, to, opts)
	switch {
	case c.wire.owed:
		return rcpt, nil
	case c.wire.refusal != nil:
		c.wire.replay()
		return c.Mail(quoteLocal(s.from), &s.opts), nil
	}
	return nil, rcpt
}

// pipelining reports whether the next hop offers it. It says hello where that
// was not done since RSET, after which go-smtp wants to.
func (c *hopConn) pipelining() bool {
	ok, _ := c.Extension("PIPELINING")
	return ok
}

// rcpt sends a recipient, with DATA behind it where the client has sent that
// already.
func (s *hopSession) rcpt(c *hopConn, to string, opts *smtp.RcptOptions) error {
	c.wire.addData = s.client.dataFollows() && !s.hop.cut.Load() && c.pipelining()
	err := c.Rcpt(quoteLocal(to), opts)
	c.wire.addData = false
	return err
}

// another sends a further recipient. If DATA has gone out the client goes on
// because it was refused, as was each recipient before.
func (s *hopSession) another(to string, opts *smtp.RcptOptions) error {
	if s.conn.wire.ahead && !s.takeBack(s.conn) {
		return s.refused(errAhead)
	}
	if err := s.rcpt(s.conn, to, opts); err != nil {
		return s.refused(err)
	}
	return nil
}

var errAhead = errors.New("the next hop has taken a DATA without a recipient")

// takeBack reads the answer to a DATA that is not wanted any more, and reports
// whether it was a refusal. Else the connection has to go.
func (s *hopSession) takeBack(c *hopConn) bool {
	c.wire.resume()
	_, err := c.Data()
	refused := isReply(err)
	if !refused {
		s.hop.cut.Store(true)
	}
	return refused
}

// sendData sends DATA while the message is still to be read: the answer will
// be there when it is needed.
func (s *hopSession) sendData() {
	if s.conn != nil && !s.conn.wire.ahead && !s.hop.cut.Load() {
		s.conn.wire.sendData()
	}
}

// abandon ends a transaction before its message.
func (s *hopSession) abandon(c *hopConn) {
	if c.wire.ahead && !s.takeBack(c) || c.Reset() != nil {
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
	c.wire.resume()
	w, err := c.Data()
	if err != nil {
		return nil, s.refused(err)
	}
	s.conn, s.begun = nil, false
	defer s.hop.release()
	out := newDataWriter(c.wire)
	defer out.free()
	if err := s.upload(out, produce); err != nil {
		s.hop.cut.Store(true)
		_ = c.Close()
		return nil, err
	}
	s.hop.cut.Store(false)
	if c.wire.unasked() {
		_ = c.Close()
		return nil, s.lost(errors.New("an answer to nothing"))
	}
	c.wire.kept = out.rest()
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
		if s.client != nil {
			_ = s.client.flush() // the client must not wait for the next hop
		}
		s.abandon(s.conn)
		s.conn = nil
		s.hop.release()
	}
	*s = hopSession{hop: s.hop, client: s.client}
}

// Logout ends the session.
func (s *hopSession) Logout() error {
	s.Reset()
	return nil
}
