package mailer

import (
	"context"
	"io"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/mailer/internal/block"
)

// EncryptOptions say how outgoing mail is encrypted.
type EncryptOptions struct {
	Step
	Keys    cipher.KeySource
	Headers cipher.HeaderPolicy // "": HeadersBaseline
	Note    *string             // as in cipher.EncryptOptions

	// InClear is told of each message that went out in clear because a rule
	// is opportunistic and the key manager said that it has no key; may be
	// nil.
	InClear func(peer string)

	// Claims, if not nil, know which keys this site has encrypted with. A message
	// that is encrypted already passes only if they know its key; it is encrypted
	// again otherwise. Where Keys is one, as a keystore.Store is, it is taken if
	// this is nil.
	Claims Claims

	// NextSize is the size of a message that the backend behind takes, in bytes, 0
	// for any; nil: any.
	NextSize func() int64

	stock *stock
}

// Claims know which keys were used to encrypt. A [keystore.Store] does.
type Claims interface {
	// Claimed reports whether the key with this ID was taken here to encrypt for
	// peer.
	Claimed(ctx context.Context, peer, keyID string) (bool, error)
}

// Encrypt returns a backend that encrypts mail before it reaches next, as the
// policy says for each recipient.
//
// Over LMTP, recipients that need different treatment get a transaction of
// next's each. Over SMTP they can't, since there is one answer for all: those
// of a second kind are refused with 452 4.5.3, and the client sends them the
// message again.
func Encrypt(next smtp.Backend, o EncryptOptions) smtp.Backend { return newEncrypt(next, o) }

func newEncrypt(next smtp.Backend, o EncryptOptions) backend {
	o.Step = o.withDefaults()
	if c, ok := o.Keys.(Claims); ok && o.Claims == nil {
		o.Claims = c
	}
	o.Keys = boundedKeys{o.Keys, o.KeyTimeout}
	o.stock = newStock(o.Logger)
	return backend{func(c client, conn *smtp.Conn) (smtp.Session, error) {
		return &encryptSession{
			session: newSession(&o.Step, c), o: &o,
			begin: func() (smtp.Session, error) { return next.NewSession(conn) },
		}, nil
	}}
}

// A backend is an encrypting or decrypting step.
type backend struct {
	// begin begins the session of a client; conn is the client's connection where
	// go-smtp's own server has it, else nil.
	begin func(c client, conn *smtp.Conn) (smtp.Session, error)
}

// NewSession begins the session of a client of go-smtp's server.
func (b backend) NewSession(conn *smtp.Conn) (smtp.Session, error) {
	return b.begin(goSMTPClient{conn}, conn)
}

// An encryptSession is a client's session.
type encryptSession struct {
	*session
	o      *EncryptOptions
	begin  func() (smtp.Session, error) // a session of the next backend
	groups []*group
}

// A group are the recipients of a transaction that get the same message.
type group struct {
	route   Route
	suite   cipher.Suite // the route's, or what is taken for it
	next    smtp.Session
	keys    timedSource
	hopWait time.Duration
	rcpts   []string
	done    outcome
	answers map[string]error // of single recipients
	err     error
}

// An outcome is what became of a message, for the log.
type outcome struct {
	how   Outcome // of those that are delivered
	suite cipher.Suite
	keyID string
	keys  int
	size  int64
}

func (o *outcome) attrs() []slog.Attr {
	attrs := append(make([]slog.Attr, 0, 10), slog.String("how", string(o.how)))
	if o.suite != "" {
		attrs = append(attrs, slog.String("suite", string(o.suite)), slog.String("key_id", o.keyID), slog.Int("keys", o.keys), slog.Int64("octets", o.size))
	}
	return attrs
}

// report is what became of the message of a group, if it was delivered.
func (g *group) report() Report {
	r := Report{
		Direction: DirectionEncrypt, Suite: g.done.suite, Outcome: g.done.how,
		Keys: g.done.keys, KeyWait: g.keys.waited, HopWait: g.hopWait,
	}
	if g.route.Peer != nil {
		r.Peer = g.route.Peer.Name
	}
	r.Delivered = delivered(g.rcpts, g.answers, g.err)
	return r
}

// Mail begins a transaction. The next hop is asked when the first recipient
// shows who gets it.
func (s *encryptSession) Mail(from string, opts *smtp.MailOptions) error {
	return s.refused(DirectionEncrypt, "MAIL", s.mail(from, opts))
}

// Rcpt asks the next hop for a recipient, in the transaction of his group.
func (s *encryptSession) Rcpt(to string, opts *smtp.RcptOptions) error {
	return s.refused(DirectionEncrypt, "RCPT", s.rcpt(to, opts))
}

func (s *encryptSession) rcpt(to string, opts *smtp.RcptOptions) error {
	if r := checkAddress(to, s.opts.UTF8); r != nil {
		return r
	}
	g, err := s.groupOf(s.step.Policy.Outbound(to))
	if err != nil {
		return err
	}
	if err := s.checkSize(g); err != nil {
		return err
	}
	if err := g.next.Rcpt(to, opts); err != nil {
		return err
	}
	if err := s.recipient(to, opts); err != nil {
		return err
	}
	g.rcpts = append(g.rcpts, to)
	return nil
}

// groupOf returns the group of a recipient, a new one if need be. A group all
// of whose recipients were refused keeps no place.
func (s *encryptSession) groupOf(route Route) (*group, error) {
	for _, g := range s.groups {
		if g.route.SameGroup(route) {
			return g, nil
		}
	}
	if route.Mode != Never && route.Peer == nil {
		return nil, refuse(451, smtp.EnhancedCode{4, 3, 5}, "no rule", "No rule says how this mail leaves, try again later")
	}
	if !s.step.LMTP {
		s.dropEmpty()
		if len(s.groups) > 0 {
			return nil, refuse(452, smtp.EnhancedCode{4, 5, 3}, "second group", "Another message for this recipient, please")
		}
	}
	return s.open(route)
}

// dropEmpty ends the transactions that have no recipient.
func (s *encryptSession) dropEmpty() {
	s.groups = slices.DeleteFunc(s.groups, func(g *group) bool {
		if len(g.rcpts) == 0 {
			_ = g.next.Logout()
		}
		return len(g.rcpts) == 0
	})
}

// open begins a transaction with the next hop.
func (s *encryptSession) open(route Route) (*group, error) {
	next, err := s.begin()
	if err != nil {
		return nil, err
	}
	opts := s.opts
	if err := next.Mail(s.from, &opts); err != nil {
		_ = next.Logout()
		return nil, err
	}
	g := &group{route: route, suite: route.Suite, next: next, keys: timedSource{KeySource: s.o.Keys, take: s.take}}
	s.groups = append(s.groups, g)
	return g, nil
}

// Data encrypts and delivers a message. Over SMTP there is one group.
func (s *encryptSession) Data(r io.Reader) error {
	return s.data(r, nil)
}

// LMTPData is Data for clients that get an answer for each recipient.
func (s *encryptSession) LMTPData(r io.Reader, status smtp.StatusCollector) error {
	return s.data(r, status)
}

// BeginData refuses a message for which there is no memory before it is sent.
func (s *encryptSession) BeginData() error {
	n, _ := s.needs()
	return s.refused(DirectionEncrypt, "DATA", s.beginData(n))
}

// needs is the memory that a message takes, in bytes, and how often its header is held
// at a time. For each group a cipher holds a message back until it knows how it is to be
// encrypted, up to pad_limit where that is auto; and so does who may send it in clear
// after that has failed.
func (s *encryptSession) needs() (n int64, copies int) {
	n, copies = int64(max(1, len(s.groups)))*messageMemory, 1
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
	mayBeSealed := err == nil && h.count("Qkdmail-Key-ID") > 0
	if mayBeSealed { // it is looked into, with its header twice
		err = s.take(2 * int64(len(s.groups)) * h.charged)
	}
	if err != nil {
		h.free()
		s.rest(r)
		return s.finish(Report{Direction: DirectionEncrypt}, nil, err)
	}
	defer h.free()
	s.dropEmpty()
	s.deliver(h, mayBeSealed)
	s.rest(r)
	for _, g := range s.groups {
		attrs := append(g.done.attrs(), slog.String("rule", g.route.Rule), slog.Int("recipients", len(g.rcpts)))
		if g.route.Peer != nil {
			attrs = append(attrs, slog.String("peer", g.route.Peer.Name))
		}
		answer := s.finish(g.report(), h, g.err, append(attrs, s.answer(g.next)...)...)
		if answer != nil {
			err = answer // for who asks for one answer: not 250 if any group has failed
		}
		if status == nil {
			continue
		}
		for _, rcpt := range g.rcpts {
			if single, ok := g.answers[rcpt]; ok {
				status.SetStatus(rcpt, plainReply(single))
			} else {
				status.SetStatus(rcpt, answer)
			}
		}
	}
	return err
}

// deliver runs all groups at the same time, from one stream.
func (s *encryptSession) deliver(h *head, mayBeSealed bool) {
	h.pass()
	if len(s.groups) == 1 {
		s.run(s.groups[0], mayBeSealed, h)
		return
	}
	readers, feed := tee(h, len(s.groups))
	var wg sync.WaitGroup
	for i, g := range s.groups {
		wg.Go(func() {
			s.run(g, mayBeSealed, readers[i])
			_ = readers[i].CloseWithError(errNotRead)
		})
	}
	feed()
	wg.Wait()
}

func (s *encryptSession) run(g *group, mayBeSealed bool, src io.Reader) {
	g.answers, g.err = s.send(g.next, g.rcpts, func(dst io.Writer) error { return s.produce(g, mayBeSealed, src, dst) }, &g.hopWait)
}

// produce writes what the next hop gets.
func (s *encryptSession) produce(g *group, mayBeSealed bool, src io.Reader, dst io.Writer) error {
	out := &prefixWriter{dst: dst, prefix: s.received()}
	if g.route.Mode == Never {
		g.done.how = OutcomeInClear
		return s.clear(out, src)
	}
	if mayBeSealed {
		sealed, replay, err := s.isSealed(g, src)
		if err != nil {
			return err
		}
		if src = replay; sealed {
			g.done.how = OutcomePassed
			return cipher.Reframe(out, src, s.sealing(g, g.suite))
		}
	}
	return s.seal(g, src, out)
}

// clear passes a message on as it is.
func (s *encryptSession) clear(dst io.Writer, src io.Reader) error {
	return block.Copy(&eightBitWriter{dst: dst, allowed: s.step.EightBit()}, src)
}

// inClear passes a message on that could not be encrypted, where the rule
// allows that.
func (s *encryptSession) inClear(g *group, src io.Reader, dst io.Writer) error {
	if s.o.InClear != nil {
		s.o.InClear(g.route.Peer.Name)
	}
	g.done.how = OutcomeInClear
	return s.clear(dst, src)
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
