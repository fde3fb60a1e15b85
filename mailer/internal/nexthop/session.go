package nexthop

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/emersion/go-smtp"
	"github.com/qkdmail/qkdmail/mailer/internal/block"
	"github.com/qkdmail/qkdmail/mailer/internal/smtpwire"
)

// A Session is a transaction at the next hop. It begins with the first recipient: MAIL
// and RCPT take one round trip, and a message without recipients takes none.
type Session struct {
	hop    *Hop
	begun  bool // Mail was called
	from   string
	opts   smtp.MailOptions
	conn   *conn // nil until the next hop has taken MAIL
	failed error // why the transaction is over
	rcpts  []string

	eightBit bool // conn takes 8-bit content
}

var _ smtp.LMTPSession = (*Session)(nil)

// Mail begins a transaction. If the next hop refuses MAIL, that is the answer to each
// Rcpt.
func (s *Session) Mail(from string, opts *smtp.MailOptions) error {
	s.Reset()
	s.begun, s.from = true, from
	if opts != nil {
		s.opts = *opts
	}
	return nil
}

// Rcpt passes a recipient on, and the answer back.
func (s *Session) Rcpt(to string, opts *smtp.RcptOptions) error {
	var err error
	switch {
	case s.conn != nil:
		r, rerr := s.conn.command(s.rcptCommand(s.conn, to, opts))
		if err = outcome(r, rerr, 250); err != nil && !refuses(err) {
			s.lose(err)
		}
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

// begin begins the transaction at the next hop, with its first recipient. The next hop may
// have closed a connection that was kept, or what it now says for good, to MAIL or to the
// recipient, may belong to an earlier transaction in which it answered some commands
// twice: then begin tries once more on a new one. A next hop that is still further behind
// is not noticed.
func (s *Session) begin(to string, opts *smtp.RcptOptions) error {
	if s.failed = s.hop.acquire(); s.failed != nil {
		return s.failed
	}
	defer func() {
		if s.conn == nil { // also after a panic
			s.hop.release()
		}
	}()
	for again := false; ; again = true {
		c, err := s.hop.get(again)
		if err != nil {
			s.failed = err
			return err
		}
		mail, rcpt := s.first(c, to, opts)
		switch {
		case c.kept && isFinal(cmp.Or(mail, rcpt)):
			c.quit()
			continue
		case mail == nil && (rcpt == nil || refuses(rcpt)):
			s.conn, s.eightBit = c, c.offered("8BITMIME")
			return rcpt
		case refuses(mail), errors.Is(mail, errNoUTF8):
			s.failed = mail
			s.hop.leave(c)
			return mail
		}
		_ = c.Close()
		if !c.kept {
			s.failed = errors.Join(mail, rcpt)
			return s.failed
		}
	}
}

// leave ends a transaction that got no message.
func (h *Hop) leave(c *conn) {
	if c.reset() {
		h.put(c)
	} else {
		_ = c.Close()
	}
}

// first sends MAIL and a recipient, together if the next hop offers PIPELINING (RFC
// 2920), and returns the outcomes.
func (s *Session) first(c *conn, to string, opts *smtp.RcptOptions) (mail, rcpt error) {
	if s.opts.UTF8 && !c.offered("SMTPUTF8") {
		return errNoUTF8, nil
	}
	together := c.offered("PIPELINING")
	c.queue(s.mailCommand(c))
	if together {
		c.queue(s.rcptCommand(c, to, opts))
	}
	if err := c.send(); err != nil {
		return fmt.Errorf("%w: %w", errLost, err), nil
	}
	r, err := c.reply()
	mail = outcome(r, err, 250)
	if !together {
		if mail != nil {
			return mail, nil
		}
		r, err := c.command(s.rcptCommand(c, to, opts))
		return nil, outcome(r, err, 250)
	}
	if mail != nil && !refuses(mail) {
		return mail, nil
	}
	r, err = c.reply()
	rcpt = outcome(r, err, 250)
	if mail != nil && !refuses(rcpt) {
		_ = c.Close() // having refused MAIL, it should refuse the recipient: its replies mean nothing
	}
	return mail, rcpt
}

// mailCommand returns MAIL, without SIZE: the client's SIZE is that of another message.
func (s *Session) mailCommand(c *conn) string {
	var b strings.Builder
	b.WriteString("MAIL FROM:<" + smtpwire.Mailbox(s.from) + ">")
	if c.offered("8BITMIME") {
		b.WriteString(" BODY=8BITMIME")
	}
	if s.opts.UTF8 {
		b.WriteString(" SMTPUTF8")
	}
	if c.offered("DSN") {
		if s.opts.Return != "" {
			b.WriteString(" RET=" + string(s.opts.Return))
		}
		if id := smtpwire.EncodeXtext(s.opts.EnvelopeID); id != "" && len(id) <= smtpwire.MaxEnvID {
			b.WriteString(" ENVID=" + id)
		}
	}
	return b.String()
}

func (s *Session) rcptCommand(c *conn, to string, opts *smtp.RcptOptions) string {
	var b strings.Builder
	b.WriteString("RCPT TO:<" + smtpwire.Mailbox(to) + ">")
	if opts == nil || !c.offered("DSN") {
		return b.String()
	}
	for i, n := range opts.Notify {
		b.WriteString([]string{" NOTIFY=", ","}[min(i, 1)] + string(n))
	}
	if opts.OriginalRecipient == "" {
		return b.String()
	}
	if text := smtpwire.EncodeORCPT(opts.OriginalRecipientType, opts.OriginalRecipient, s.opts.UTF8); len(text) <= smtpwire.MaxORCPT {
		b.WriteString(" ORCPT=" + text)
	}
	return b.String()
}

// Data delivers a message, and returns the answer. If r fails the message is not
// delivered, and the error is r's.
func (s *Session) Data(r io.Reader) error {
	_, _, err := s.handOver(func(dst io.Writer) error { return block.Copy(dst, r) })
	return err
}

// LMTPData is Data with an answer for each recipient.
func (s *Session) LMTPData(r io.Reader, status smtp.StatusCollector) error {
	answers, _, err := s.handOver(func(dst io.Writer) error { return block.Copy(dst, r) })
	for i, rcpt := range s.rcpts {
		if i < len(answers) {
			status.SetStatus(rcpt, answers[i])
		} else {
			status.SetStatus(rcpt, err)
		}
	}
	return err
}

// lose ends a transaction whose connection can't be used any more.
func (s *Session) lose(err error) {
	_ = s.conn.Close()
	s.conn, s.failed = nil, err
	s.hop.release()
}

// over returns why there is no transaction, or none any more.
func (s *Session) over() error {
	if s.failed != nil {
		return s.failed
	}
	return errSequence
}

// Reset ends the transaction.
func (s *Session) Reset() {
	if s.conn != nil {
		s.hop.leave(s.conn)
		s.hop.release()
	}
	*s = Session{hop: s.hop}
}

// Logout ends the session.
func (s *Session) Logout() error {
	s.Reset()
	return nil
}
