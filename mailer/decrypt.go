package mailer

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/mailer/internal/address"
	"github.com/qkdmail/qkdmail/mailer/internal/block"
	"github.com/qkdmail/qkdmail/mailer/internal/contract"
	"github.com/qkdmail/qkdmail/mailer/internal/keygate"
	"github.com/qkdmail/qkdmail/mailer/internal/message"
	"github.com/qkdmail/qkdmail/mailer/internal/outer"
	"github.com/qkdmail/qkdmail/mailer/internal/refusal"
	"github.com/qkdmail/qkdmail/mailer/internal/sender"
)

// DecryptOptions say how arriving mail is decrypted.
type DecryptOptions struct {
	Step
	Keys cipher.KeyFinder // must be set

	// Binder ensures that a key opens only one message. It must be set, to a
	// keystore.Store or to cipher.Unbound.
	Binder cipher.KeyBinder
	// Deliveries ensure that each recipient gets a message only once. They must be set,
	// to a keystore.Store or to Unrecorded.
	Deliveries Deliveries
	// Hybrid are this site's X-Wing keys, any of which may open a message; nil: none.
	Hybrid []*cipher.HybridPrivateKey

	// MaxAge and MaxAhead are how far in the past and in the future an accepted message
	// may have been encrypted; 0: DefaultMaxAge and DefaultMaxAhead.
	MaxAge, MaxAhead time.Duration

	// KeyGrace is how long after its first look-up a key may be missing before its
	// message is refused for good; 0: DefaultKeyGrace.
	KeyGrace time.Duration
}

// Defaults of [DecryptOptions]. The grace for a missing key is long enough that no mail
// is lost if two sites' keys are not synchronised for a whole day.
const (
	DefaultMaxAge   = 30 * 24 * time.Hour
	DefaultMaxAhead = 24 * time.Hour
	DefaultKeyGrace = 48 * time.Hour
)

// Decrypt returns a backend that restores encrypted mail before it reaches
// next. Mail that is not encrypted passes, unless the policy requires its
// sender to encrypt.
//
// A recipient that a message is not sealed for is refused, unless the peer's AnyRecipient
// is set. Over LMTP the others get the message; over SMTP, which has one answer for all,
// no one does.
//
// Restored mail gets new fields above its own bytes: a Qkdmail-Result field, a Received
// field, and the trace fields that relays put on the encrypted message. Of those,
// Received and Return-Path keep their names; Authentication-Results and Delivered-To get
// the prefix Qkdmail-Outer-. Plain mail loses all Qkdmail- fields but Qkdmail-Key-ID,
// since only the relay may write them. In a restored message, whose bytes are the
// sender's, trust only the topmost Qkdmail-Result.
//
// All mail leaves with RET=HDRS (RFC 3461), whatever the client says, so that a report
// quotes a header at most: nothing authenticates the envelope sender, who gets it.
//
// The error is an ErrConfig: a required option is not set.
func Decrypt(next smtp.Backend, o DecryptOptions) (smtp.Backend, error) {
	if err := o.check(next); err != nil {
		return nil, err
	}
	switch {
	case o.Keys == nil:
		return nil, fmt.Errorf("%w: DecryptOptions.Keys must be set", ErrConfig)
	case o.Binder == nil:
		return nil, fmt.Errorf("%w: DecryptOptions.Binder must be set; cipher.Unbound binds no key", ErrConfig)
	case o.Deliveries == nil:
		return nil, fmt.Errorf("%w: DecryptOptions.Deliveries must be set; mailer.Unrecorded records none", ErrConfig)
	}
	if o.MaxAge <= 0 {
		o.MaxAge = DefaultMaxAge
	}
	if o.MaxAhead <= 0 {
		o.MaxAhead = DefaultMaxAhead
	}
	gate := keygate.New(o.Keys, o.Binder, o.KeyTimeout, cmp.Or(o.KeyGrace, DefaultKeyGrace))
	return backend{func(c contract.Client, conn *smtp.Conn) (contract.Session, error) {
		s, err := next.NewSession(conn)
		if err != nil {
			return nil, plainReply(err)
		}
		return &decryptSession{session: newSession(&o.Step, c), o: &o, gate: gate, out: s}, nil
	}}, nil
}

// A decryptSession is a client's session, with one of next's.
type decryptSession struct {
	*session
	o     *DecryptOptions
	gate  *keygate.Gate
	out   smtp.Session
	rcpts []string
	asked map[string]*smtp.RcptOptions // the client's parameters, by recipient
}

// Mail begins a transaction, here and at the next hop.
func (s *decryptSession) Mail(from string, opts *smtp.MailOptions) error {
	err := s.mail(from, opts)
	if err == nil {
		s.opts.Return = smtp.DSNReturnHeaders
		next := s.opts
		if err = s.out.Mail(from, &next); err != nil {
			s.end()
		}
	}
	return s.refused(DirectionDecrypt, "MAIL", err)
}

// Rcpt passes a recipient on, and the answer back.
func (s *decryptSession) Rcpt(to string, opts *smtp.RcptOptions) error {
	if r := checkAddress(to, s.opts.UTF8); r != nil {
		return s.refused(DirectionDecrypt, "RCPT", r)
	}
	if err := s.recipient(s.out, to, opts); err != nil {
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
	_, err := s.data(r, false)
	return err
}

// LMTPData is Data for clients that get an answer for each recipient.
func (s *decryptSession) LMTPData(r io.Reader, status smtp.StatusCollector) error {
	a, err := s.data(r, true)
	for _, rcpt := range s.rcpts {
		if single, ok := a.single[rcpt]; ok {
			status.SetStatus(rcpt, plainReply(single))
		} else {
			status.SetStatus(rcpt, err)
		}
	}
	return err
}

// BeginData refuses a message for which there is no memory, before it is sent.
func (s *decryptSession) BeginData() error {
	return s.refused(DirectionDecrypt, "DATA", s.beginData(MessageMemory))
}

// data restores and delivers a message; each says whether each recipient gets an answer.
func (s *decryptSession) data(r io.Reader, each bool) (answer, error) {
	h, err := s.read(r, MessageMemory, 1)
	if err != nil {
		s.rest(r)
		return answer{}, s.finish(Report{Direction: DirectionDecrypt}, nil, err)
	}
	defer h.Free()
	h.DropOwnWords()
	found := found{each: each}
	defer func() { found.inner.Free() }()
	var produce producer
	err = recovered(func() (err error) {
		produce, err = s.open(h, &found)
		return err
	})
	a := s.deliver(&found, produce, err)
	s.heard(a)
	s.rest(r)
	if n := len(found.foreign); n > 0 { // they have an answer of their own
		attrs := append(found.attrs(), slog.Int("recipients", n))
		reply := s.finish(found.report(), h, redirected(), append(attrs, s.foreignAttrs(&found)...)...)
		if n == len(s.rcpts) {
			return a, reply
		}
	}
	rcpts := s.sealedFor(&found)
	attrs := append(found.attrs(), slog.Int("recipients", len(rcpts)))
	report := found.report()
	report.Delivered, report.HopWait = len(a.delivered(rcpts)), a.wait
	return a, s.finish(report, h, a.err, append(attrs, s.saidAttrs(rcpts)...)...)
}

// open finds out what a message is, and refuses it if it can't be accepted. The producer
// writes what the next hop gets.
func (s *decryptSession) open(h *message.Reader, f *found) (producer, error) {
	info, replay, err := cipher.Sniff(h.SkipHeader(), h)
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
		return block.Copy(s.eightBit(s.out, out), replay)
	}, nil
}

// checkPlain refuses mail in clear from a domain that has to encrypt, by header From or
// by envelope: no one may pose as a peer's user by leaving out the encryption.
func (s *decryptSession) checkPlain(h *message.Reader) error {
	policy := s.step.Policy
	if s.from == "" && policy.plainReports {
		return nil
	}
	notEncrypted := func(domain string) error {
		return refusal.New(550, smtp.EnhancedCode{5, 7, 1}, "not encrypted", "Mail from "+printable(domain)+" has to be encrypted")
	}
	if domain := address.Domain(s.from); policy.InboundRequired(domain) {
		return notEncrypted(domain)
	}
	from := sender.Read(h.Header())
	for _, domain := range from.Domains {
		if policy.InboundRequired(domain) {
			return notEncrypted(domain)
		}
	}
	if policy.anyInboundRequired() && !from.Readable {
		return errUnreadableSender()
	}
	return nil
}

// errUnreadableSender refuses a message whose From or Sender can't be read: it could
// show any name.
func errUnreadableSender() *refusal.Refusal {
	return refusal.New(550, smtp.EnhancedCode{5, 7, 1}, "unreadable sender", "The From or Sender field of the message can't be read")
}

// restore decrypts a message up to its header.
func (s *decryptSession) restore(h *message.Reader, replay io.Reader, f *found) (producer, error) {
	f.how, f.keys.Gate, f.keys.client, f.keys.take = OutcomeDecrypted, s.gate, originOf(s.client), s.take
	f.outer = outer.Of(h)
	r, err := cipher.Decrypt(s.ctx, replay, &f.keys, &cipher.DecryptOptions{
		Binder: &f.keys, Hybrid: s.o.Hybrid, SAE: s.step.Policy.sae, Peers: s.peerSAEs(),
		Accept: func(i *cipher.Info) error { h.Pass(); return s.accept(i, f) },
	})
	if err != nil {
		return nil, s.lostKey(err)
	}
	f.info = r.Info()
	if err := s.checkRecipients(r, f); err != nil {
		return nil, s.lostKey(err)
	}
	inner, err := message.NewReader(r, s.step.MaxHeader, s.take)
	if err != nil {
		return nil, s.lostKey(err)
	}
	f.inner = inner
	if err := s.checkSender(inner, f.peer); err != nil {
		return nil, err
	}
	return func(dst io.Writer) error { return s.write(inner, dst, f) }, nil
}

// write writes a restored message, with the fields above it.
func (s *decryptSession) write(inner *message.Reader, dst io.Writer, f *found) error {
	checked := s.eightBit(s.out, dst)
	above := &prefixWriter{dst: checked}
	out := message.NewWriter(above, inner.Start())
	above.prefix = s.result(inner, f, out.LF()) + s.received() + transit(f.info.Transit)
	if len(inner.Start()) == 0 {
		_, err := io.WriteString(checked, above.prefix) // nothing else is written for an empty message
		return err
	}
	inner.Pass()
	if err := block.Copy(out, inner); err != nil {
		return s.lostKey(err)
	}
	return out.Close()
}

// lostKey turns a key that did not come within its grace into a permanent failure: the
// sender gets a report, and can send the message again.
func (s *decryptSession) lostKey(err error) error {
	if errors.Is(err, keygate.ErrGone) {
		return refusal.New(550, smtp.EnhancedCode{5, 7, 5}, "key gone", "The key of this message is lost, send it again").Because(err)
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

// accept refuses what a peer should not have sent, before any key is asked for.
func (s *decryptSession) accept(i *cipher.Info, f *found) error {
	f.info = i
	peer, ok := s.step.Policy.PeerBySAE(i.SenderSAE)
	if !ok {
		return fmt.Errorf("%w: %q", cipher.ErrSAE, i.SenderSAE)
	}
	f.peer = peer
	if !peer.Accepts(i.Suite) {
		return refusal.New(550, smtp.EnhancedCode{5, 7, 1}, "suite not agreed", "This cipher suite is not agreed with this peer")
	}
	switch age := s.step.Now().Sub(i.Time); {
	case age > s.o.MaxAge:
		return refusal.New(550, smtp.EnhancedCode{5, 7, 1}, "too old", "The message was encrypted too long ago")
	case age < -s.o.MaxAhead:
		return refusal.New(451, smtp.EnhancedCode{4, 7, 1}, "from the future", "The message was encrypted in the future, check the clocks of both sites")
	}
	return nil
}

// checkSender refuses a message that a peer sends in the name of another peer or of
// this site. The domains of the restored From and of the envelope's sender must be the
// peer's, as far as the policy knows whose they are.
func (s *decryptSession) checkSender(inner *message.Reader, peer *Peer) error {
	policy := s.step.Policy
	anothers := func(domain string) error {
		if policy.OwnDomain(domain) {
			return refusal.New(550, smtp.EnhancedCode{5, 7, 1}, "own domain", "The sender's domain is ours and not this peer's")
		}
		return refusal.New(550, smtp.EnhancedCode{5, 7, 1}, "another peer's domain", "The sender's domain is not this peer's")
	}
	if domain := address.Domain(s.from); !policy.mayWriteAs(peer, domain) {
		return anothers(domain)
	}
	from := sender.Read(inner.Header())
	for _, domain := range from.Domains {
		if !policy.mayWriteAs(peer, domain) {
			return anothers(domain)
		}
	}
	if policy.knowsOthers(peer) && !from.Readable {
		return errUnreadableSender()
	}
	return s.checkReversePath(peer, inner.Header())
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
