package mailer

import (
	"context"
	"fmt"
	"io"
	"log/slog"

	"github.com/emersion/go-smtp"
	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/mailer/internal/block"
	"github.com/qkdmail/qkdmail/mailer/internal/contract"
)

// EncryptOptions say how outgoing mail is encrypted.
type EncryptOptions struct {
	Step
	Keys    cipher.KeySource    // must be set
	Headers cipher.HeaderPolicy // "": HeadersBaseline
	Note    *string             // as in cipher.EncryptOptions

	// Claims know which keys this site has encrypted with. A message that is already
	// encrypted passes if they know its key; otherwise it is encrypted again. nil: it
	// always is.
	Claims Claims

	// NextSize returns the size of the largest message that next takes, in bytes, 0 for
	// any; nil: any.
	NextSize func() int64
	// InClear, if not nil, is called for each message that goes out in clear because a
	// rule is opportunistic and the key manager has said that it has no key.
	InClear func(peer string)

	shortages *shortages
}

// Claims know which keys were used to encrypt. A keystore.Store implements it.
type Claims interface {
	// Claimed reports whether the key with this ID was claimed here to encrypt for peer.
	Claimed(ctx context.Context, peer, keyID string) (bool, error)
}

// Encrypt returns a backend that encrypts mail before it reaches next, as the
// policy says for each recipient.
//
// A message is sealed for the recipients that next accepts.
//
// Over LMTP, recipients with different rules, or more than cipher.MaxRecipients, are
// split over several transactions with next. Over SMTP there is one answer for all
// recipients, so those of a second group are refused with 452 4.5.3, and the client sends
// them the message in another transaction.
//
// The error is an ErrConfig: a required option is not set.
func Encrypt(next smtp.Backend, o EncryptOptions) (smtp.Backend, error) {
	if err := o.check(next); err != nil {
		return nil, err
	}
	if o.Keys == nil {
		return nil, fmt.Errorf("%w: EncryptOptions.Keys must be set", ErrConfig)
	}
	o.Keys = boundedKeys{o.Keys, o.KeyTimeout}
	o.shortages = newShortages(o.Logger)
	return backend{func(c contract.Client, conn *smtp.Conn) (contract.Session, error) {
		return &encryptSession{
			session: newSession(&o.Step, c), o: &o,
			begin: func() (smtp.Session, error) { return next.NewSession(conn) },
		}, nil
	}}, nil
}

// An encryptSession is a client's session.
type encryptSession struct {
	*session
	o      *EncryptOptions
	begin  func() (smtp.Session, error) // a session of the next backend
	groups []*group
}

// Mail begins a transaction. The next hop is asked when the first recipient comes, which
// decides the group.
func (s *encryptSession) Mail(from string, opts *smtp.MailOptions) error {
	return s.refused(DirectionEncrypt, "MAIL", s.mail(from, opts))
}

// Rcpt passes a recipient on, in the transaction of its group, and the answer back.
func (s *encryptSession) Rcpt(to string, opts *smtp.RcptOptions) error {
	route := s.step.Policy.Raised(s.from, nil).Outbound(to)
	return s.refused(DirectionEncrypt, "RCPT", s.rcpt(to, opts, route), route.triggerAttrs()...)
}

func (s *encryptSession) rcpt(to string, opts *smtp.RcptOptions, route Route) error {
	if r := checkAddress(to, s.opts.UTF8); r != nil {
		return r
	}
	g, err := s.groupOf(route)
	if err != nil {
		return err
	}
	if err := s.checkSize(g, len(g.rcpts)+1); err != nil {
		return err
	}
	if err := s.recipient(g.next, to, opts); err != nil {
		return err
	}
	g.rcpts = append(g.rcpts, to)
	return nil
}

// Data encrypts and delivers a message. Over SMTP there is one group.
func (s *encryptSession) Data(r io.Reader) error {
	return s.data(r, nil)
}

// LMTPData is Data for clients that get an answer for each recipient.
func (s *encryptSession) LMTPData(r io.Reader, status smtp.StatusCollector) error {
	return s.data(r, status)
}

// BeginData refuses a message for which there is no memory, before it is sent.
func (s *encryptSession) BeginData() error {
	n, _ := s.needs()
	return s.refused(DirectionEncrypt, "DATA", s.beginData(n))
}

// needs returns the memory that a message takes, in bytes, and how many copies of its
// header are held at a time. For each group the cipher holds the message back until it
// knows the suite: with auto, up to the pad limit. If the message may go out in clear
// after a failure, there is one more copy.
func (s *encryptSession) needs() (n int64, copies int) {
	n, copies = int64(max(1, len(s.groups)))*MessageMemory, 1
	for _, g := range s.groups {
		if g.route.Mode == Never {
			continue
		}
		held := 2 // for a moment, as a buffer grows
		if g.route.Mode == Opportunistic {
			held++
		}
		copies += held
		if g.suite == cipher.SuiteAuto {
			n += int64(held) * int64(max(0, g.route.PadLimit-cipher.DefaultPadLimit))
		}
	}
	return n, copies
}

func (s *encryptSession) data(r io.Reader, status smtp.StatusCollector) error {
	n, copies := s.needs()
	h, err := s.read(r, n, copies)
	mayBeEncrypted := err == nil && h.Count("Qkdmail-Key-ID") > 0
	if mayBeEncrypted { // looking into it takes two more copies of the header
		err = s.take(2 * int64(len(s.groups)) * h.Charged())
	}
	if err == nil {
		err = recovered(func() error { s.raise(h.Header()); return nil })
	}
	if err != nil {
		h.Free()
		s.rest(r)
		return s.finish(Report{Direction: DirectionEncrypt}, nil, err)
	}
	defer h.Free()
	s.dropEmpty()
	s.runGroups(h, mayBeEncrypted)
	s.rest(r)
	for _, g := range s.groups {
		s.heard(g.answer)
		attrs := append(g.done.attrs(), slog.String("rule", g.route.Rule), slog.Int("recipients", len(g.rcpts)))
		attrs = append(attrs, g.route.triggerAttrs()...)
		if g.route.Peer != nil {
			attrs = append(attrs, slog.String("peer", g.route.Peer.Name))
		}
		reply := s.finish(g.report(), h, g.answer.err, append(attrs, s.saidAttrs(g.rcpts)...)...)
		if reply != nil {
			err = reply // the one answer over SMTP: no 250 if any group has failed
		}
		if status == nil {
			continue
		}
		for _, rcpt := range g.rcpts {
			if single, ok := g.answer.single[rcpt]; ok {
				status.SetStatus(rcpt, plainReply(single))
			} else {
				status.SetStatus(rcpt, reply)
			}
		}
	}
	return err
}

// produce writes what the next hop gets.
func (s *encryptSession) produce(g *group, mayBeEncrypted bool, src io.Reader, dst io.Writer) error {
	if err := s.checkRaised(g); err != nil {
		return err
	}
	out := &prefixWriter{dst: dst, prefix: s.received()}
	if g.route.Mode == Never {
		g.done.how = OutcomeInClear
		return s.clear(g, src, out)
	}
	if mayBeEncrypted {
		encrypted, replay, err := s.isEncrypted(g, src)
		if err != nil {
			return err
		}
		if src = replay; encrypted {
			g.done.how = OutcomePassed
			return cipher.Rewrap(out, src, s.cipherOptions(g, g.suite))
		}
	}
	return s.encryptAny(g, src, out)
}

// clear passes a message on as it is.
func (s *encryptSession) clear(g *group, src io.Reader, dst io.Writer) error {
	return block.Copy(s.eightBit(g.next, dst), src)
}

// inClear passes on a message that could not be encrypted, if the rule allows that.
func (s *encryptSession) inClear(g *group, src io.Reader, dst io.Writer) error {
	if s.o.InClear != nil {
		s.o.InClear(g.route.Peer.Name)
	}
	g.done.how = OutcomeInClear
	return s.clear(g, src, dst)
}

// Reset ends the transaction.
func (s *encryptSession) Reset() {
	for _, g := range s.groups {
		_ = g.next.Logout()
	}
	s.groups = nil
	s.end()
}

// Logout ends the session.
func (s *encryptSession) Logout() error {
	s.Reset()
	s.logout()
	return nil
}
