package mailer

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/mailer/internal/block"
)

// DecryptOptions say how arriving mail is decrypted.
type DecryptOptions struct {
	Step
	Keys cipher.KeyFinder

	// Deliveries, if not nil, keep a message from being delivered to anybody
	// twice. Where Keys is one, as a keystore.Store is, it is taken if this
	// is nil.
	Deliveries Deliveries

	// MaxAge and MaxAhead bound the time of encryption of a message that is
	// accepted; 0: 30 days and 1 day.
	MaxAge, MaxAhead time.Duration

	// KeyGrace is how long a key may be missing, from when it was first looked
	// for, before its message is refused for good; 0: DefaultKeyGrace.
	KeyGrace time.Duration
}

const (
	defaultMaxAge   = 30 * 24 * time.Hour
	defaultMaxAhead = 24 * time.Hour
)

// Decrypt returns a backend that restores encrypted mail before it reaches
// next. Mail that is not encrypted passes, unless the policy requires its
// sender to encrypt.
//
// Restored mail gets, above its own octets, a Qkdmail-Result field, a Received
// field, and the Received, Return-Path and Delivered-To fields that relays put
// on the encrypted message. From plain mail all Qkdmail- fields but Qkdmail-Key-ID
// are removed: those words are the relay's. In a restored message, whose octets are
// the sender's, only the topmost Qkdmail-Result is to be trusted.
func Decrypt(next smtp.Backend, o DecryptOptions) smtp.Backend { return newDecrypt(next, o) }

func newDecrypt(next smtp.Backend, o DecryptOptions) backend {
	o.Step = o.withDefaults()
	if o.MaxAge <= 0 {
		o.MaxAge = defaultMaxAge
	}
	if o.MaxAhead <= 0 {
		o.MaxAhead = defaultMaxAhead
	}
	if d, ok := o.Keys.(Deliveries); ok && o.Deliveries == nil {
		o.Deliveries = d
	}
	gate := newKeyGate(o.Keys, o.KeyTimeout, cmp.Or(o.KeyGrace, DefaultKeyGrace))
	return backend{func(c client, conn *smtp.Conn) (smtp.Session, error) {
		s, err := next.NewSession(conn)
		if err != nil {
			return nil, plainReply(err)
		}
		return &decryptSession{session: newSession(&o.Step, c), o: &o, gate: gate, out: s}, nil
	}}
}

// A decryptSession is a client's session, with one of next's.
type decryptSession struct {
	*session
	o     *DecryptOptions
	gate  *keyGate
	out   smtp.Session
	rcpts []string
	asked map[string]*smtp.RcptOptions // what the client said of them
}

// Mail begins a transaction, here and at the next hop.
func (s *decryptSession) Mail(from string, opts *smtp.MailOptions) error {
	err := s.mail(from, opts)
	if err == nil {
		next := s.opts
		if err = s.out.Mail(from, &next); err != nil {
			s.end()
		}
	}
	return s.refused(DirectionDecrypt, "MAIL", err)
}

// Rcpt passes a recipient and the answer on.
func (s *decryptSession) Rcpt(to string, opts *smtp.RcptOptions) error {
	if r := checkAddress(to, s.opts.UTF8); r != nil {
		return s.refused(DirectionDecrypt, "RCPT", r)
	}
	err := s.out.Rcpt(to, opts)
	if err == nil {
		err = s.recipient(to, opts)
	}
	if err != nil {
		return s.refused(DirectionDecrypt, "RCPT", err)
	}
	s.rcpts = append(s.rcpts, to)
	if s.asked == nil {
		s.asked = map[string]*smtp.RcptOptions{}
	}
	s.asked[to] = opts
	return nil
}

// Data restores and delivers a message.
func (s *decryptSession) Data(r io.Reader) error {
	_, err := s.data(r)
	return err
}

// LMTPData is Data for clients that get an answer for each recipient.
func (s *decryptSession) LMTPData(r io.Reader, status smtp.StatusCollector) error {
	answers, err := s.data(r)
	for _, rcpt := range s.rcpts {
		if answer, ok := answers[rcpt]; ok {
			status.SetStatus(rcpt, plainReply(answer))
		} else {
			status.SetStatus(rcpt, err)
		}
	}
	return err
}

// BeginData refuses a message for which there is no memory before it is sent.
func (s *decryptSession) BeginData() error {
	return s.refused(DirectionDecrypt, "DATA", s.beginData(messageMemory))
}

func (s *decryptSession) data(r io.Reader) (map[string]error, error) {
	h, err := s.read(r, messageMemory, 1)
	if err != nil {
		s.rest(r)
		return nil, s.finish(Report{Direction: DirectionDecrypt}, nil, err)
	}
	defer h.free()
	h.dropOwnWords()
	var found found
	defer func() { found.inner.free() }()
	var produce producer
	err = recovered(func() (err error) {
		produce, err = s.open(h, &found)
		return err
	})
	answers, err := s.deliver(&found, produce, err)
	s.rest(r)
	attrs := append(found.attrs(), slog.Int("recipients", len(s.rcpts)))
	report := found.report()
	report.Delivered = delivered(s.rcpts, answers, err)
	return answers, s.finish(report, h, err, append(attrs, s.answer(s.out)...)...)
}

// open finds out what a message is, and refuses it if it can't be taken. The
// producer writes what the next hop gets.
func (s *decryptSession) open(h *head, f *found) (producer, error) {
	h.read = h.size
	info, replay, err := cipher.Sniff(h.raw[:h.size], h)
	if err != nil {
		return nil, err
	}
	if info != nil {
		return s.restore(h, replay, f)
	}
	f.how = OutcomePlain
	if err := s.checkPlain(h); err != nil {
		return nil, err
	}
	return func(dst io.Writer) error {
		out := &prefixWriter{dst: dst, prefix: s.received()}
		return block.Copy(&eightBitWriter{dst: out, allowed: s.step.EightBit()}, replay)
	}, nil
}

// checkPlain refuses mail in clear from who has to encrypt, by the header From
// and by the envelope: a peer's user must not be played by leaving the
// encryption out.
func (s *decryptSession) checkPlain(h *head) error {
	policy := s.step.Policy
	if s.from == "" && !policy.NullSenderRequired() {
		return nil
	}
	notEncrypted := func(domain string) error {
		return refuse(550, smtp.EnhancedCode{5, 7, 1}, "not encrypted", "Mail from "+printable(domain)+" has to be encrypted")
	}
	if domain := domainOf(s.from); policy.InboundRequired(domain) {
		return notEncrypted(domain)
	}
	from := h.sender()
	for _, domain := range from.domains {
		if policy.InboundRequired(domain) {
			return notEncrypted(domain)
		}
	}
	if policy.AnyInboundRequired() && !from.readable {
		return errUnreadableSender()
	}
	return nil
}

// errUnreadableSender refuses a message whose From or Sender could show a name that it
// may not bear: a check that can't read its input refuses.
func errUnreadableSender() *refusal {
	return refuse(550, smtp.EnhancedCode{5, 7, 1}, "unreadable sender", "The From or Sender field of the message can't be read")
}

// restore decrypts a message of ours, up to its header.
func (s *decryptSession) restore(h *head, replay io.Reader, f *found) (producer, error) {
	f.how, f.keys.keyGate, f.keys.client, f.keys.take = OutcomeDecrypted, s.gate, originOf(s.client), s.take
	f.outer = claimsOf(h)
	r, err := cipher.Decrypt(s.ctx, replay, &f.keys, &cipher.DecryptOptions{
		Binder: &f.keys, SAE: s.step.SAE, Peers: s.peerSAEs(),
		Accept: func(i *cipher.Info) error { h.pass(); return s.accept(i, f) },
	})
	if err != nil {
		return nil, s.noKeyLeft(err)
	}
	f.info = r.Info()
	inner, err := readHead(r, int(s.step.Limits.HeaderSize), s.take)
	if err != nil {
		return nil, s.noKeyLeft(err)
	}
	f.inner = inner
	if err := s.checkSender(inner, f.peer); err != nil {
		return nil, err
	}
	return func(dst io.Writer) error { return s.write(inner, dst, f) }, nil
}

// write writes a restored message with what stands above it.
func (s *decryptSession) write(inner *head, dst io.Writer, f *found) error {
	checked := &eightBitWriter{dst: dst, allowed: s.step.EightBit()}
	above := &prefixWriter{dst: checked}
	out := &smtpWriter{dst: above}
	out.style(inner.raw)
	above.prefix = s.result(inner, f, out.lf) + s.received() + transit(f.info.Transit)
	if len(inner.raw) == 0 {
		_, err := io.WriteString(checked, above.prefix) // an empty message has a place too
		return err
	}
	inner.pass()
	if err := block.Copy(out, inner); err != nil {
		return s.noKeyLeft(err)
	}
	return out.Close()
}

// noKeyLeft makes a key that did not come in hours a permanent failure: the
// sender is told, and can send again.
func (s *decryptSession) noKeyLeft(err error) error {
	if errors.Is(err, errKeyGone) {
		return refuse(550, smtp.EnhancedCode{5, 7, 5}, "key gone", "The key of this message is lost, send it again").because(err)
	}
	return err
}

func (s *decryptSession) peerSAEs() []string {
	var saes []string
	for _, p := range s.step.Policy.Peers() {
		saes = append(saes, p.SAE)
	}
	return saes
}

// accept refuses what the peer should not have sent, before a key is asked
// for.
func (s *decryptSession) accept(i *cipher.Info, f *found) error {
	f.info = i
	peer, ok := s.step.Policy.PeerBySAE(i.SenderSAE)
	if !ok {
		return fmt.Errorf("%w: %q", cipher.ErrSAE, i.SenderSAE)
	}
	f.peer = peer
	if len(peer.Suites) > 0 && !slices.Contains(peer.Suites, i.Suite) {
		return refuse(550, smtp.EnhancedCode{5, 7, 1}, "suite not agreed", "This cipher suite is not agreed with this peer")
	}
	switch age := time.Since(i.Time); {
	case age > s.o.MaxAge:
		return refuse(550, smtp.EnhancedCode{5, 7, 1}, "too old", "The message was encrypted too long ago")
	case age < -s.o.MaxAhead:
		return refuse(550, smtp.EnhancedCode{5, 7, 1}, "from the future", "The message was encrypted in the future, check the clocks")
	}
	return nil
}

// checkSender refuses a message from a peer that speaks in the name of another one
// or in ours: the domains of the restored From and of the envelope's sender must be
// the peer's, as far as the policy knows whose they are.
func (s *decryptSession) checkSender(inner *head, peer *Peer) error {
	policy := s.step.Policy
	anothers := func(domain string) error {
		if policy.OwnDomain(domain) {
			return refuse(550, smtp.EnhancedCode{5, 7, 1}, "own domain", "The sender's domain is ours and not this peer's")
		}
		return refuse(550, smtp.EnhancedCode{5, 7, 1}, "another peer's domain", "The sender's domain is not this peer's")
	}
	if domain := domainOf(s.from); !policy.mayWriteAs(peer, domain) {
		return anothers(domain)
	}
	from := inner.sender()
	for _, domain := range from.domains {
		if !policy.mayWriteAs(peer, domain) {
			return anothers(domain)
		}
	}
	if policy.knowsOthers(peer) && !from.readable {
		return errUnreadableSender()
	}
	return nil
}

// Reset ends the transaction.
func (s *decryptSession) Reset() {
	s.out.Reset()
	s.rcpts, s.asked = nil, nil
	s.end()
}

// Logout ends the session.
func (s *decryptSession) Logout() error {
	s.logout()
	return s.out.Logout()
}
