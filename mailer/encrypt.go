package mailer

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/kmclient"
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
	o.Keys = boundedKeys{o.Keys, o.KeyTimeout}
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
	g := &group{route: route, next: next, keys: timedSource{KeySource: s.o.Keys}}
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
	return s.refused(DirectionEncrypt, "DATA", s.beginData(len(s.groups)))
}

func (s *encryptSession) data(r io.Reader, status smtp.StatusCollector) error {
	h, err := s.read(r, len(s.groups))
	if err != nil {
		s.rest(r)
		return s.finish(Report{Direction: DirectionEncrypt}, nil, err)
	}
	defer h.free()
	s.dropEmpty()
	s.deliver(h)
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
func (s *encryptSession) deliver(h *head) {
	mayBeSealed := h.count("Qkdmail-Key-ID") > 0
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
		sealed, replay, err := isSealed(s.ctx, src, s.step.SAE, g.route.Peer.SAE)
		if err != nil {
			return err
		}
		if src = replay; sealed {
			g.done.how = OutcomePassed
			return block.Copy(out, src)
		}
	}
	err := s.checkStock(g)
	if g.route.Mode == Opportunistic && errors.Is(err, kmclient.ErrKeyExhausted) {
		return s.inClear(g, src, out)
	}
	if err != nil {
		return err
	}
	return s.encrypt(g, src, out)
}

// isSealed tells whether a message is encrypted already by this site for this
// peer, perhaps by this relay in another pass. One that only says so in its
// header is not, nor is one for somebody else, and goes out encrypted: what is
// in it may be in clear, and encrypting twice does no harm. What was put around
// the encrypted part since is not looked at.
func isSealed(ctx context.Context, src io.Reader, sae, peer string) (sealed bool, replay io.Reader, err error) {
	head, err := io.ReadAll(io.LimitReader(src, cipher.SniffLimit))
	if err != nil {
		return false, nil, err
	}
	// As the peer would read it, up to where he would ask for the key.
	_, err = cipher.Decrypt(ctx, bytes.NewReader(head), nil, &cipher.DecryptOptions{
		SAE: peer, Peers: []string{sae},
		Accept: func(*cipher.Info) error { return errSealed },
	})
	return errors.Is(err, errSealed), io.MultiReader(bytes.NewReader(head), src), nil
}

var errSealed = errors.New("the message is encrypted")

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

// checkStock refuses a message for whose pad the key manager has too few keys
// before the first of them is spent on it.
func (s *encryptSession) checkStock(g *group) error {
	need := s.opts.Size
	switch {
	case g.route.Suite == cipher.SuiteAES256GCM:
		return nil
	case g.route.Suite == cipher.SuiteAuto && (need == 0 || need > int64(g.route.PadLimit)):
		return nil // decided by the size, which is not known, or AES
	}
	status, err := g.keys.Status(s.ctx, g.route.Peer.SAE)
	if err != nil {
		return err
	}
	if status.OnDemand || status.KeySize <= 0 || status.StoredKeys == nil {
		return nil
	}
	if have := int64(*status.StoredKeys) * int64(status.KeySize/8); have < need || *status.StoredKeys <= 0 {
		return kmclient.ErrKeyExhausted
	}
	return nil
}

// encrypt encrypts a message. Where the route is opportunistic and the key
// manager says that it has no key, before anything was written, it goes out in
// clear; so much of it is held back until then.
func (s *encryptSession) encrypt(g *group, src io.Reader, dst io.Writer) error {
	first := &firstWrite{dst: dst}
	w, err := cipher.Encrypt(s.ctx, first, &g.keys, &cipher.EncryptOptions{
		Suite: g.route.Suite, PadLimit: g.route.PadLimit,
		SAE: s.step.SAE, Peer: g.route.Peer.SAE,
		Headers: s.o.Headers, Note: s.o.Note,
		LineEnd: cipher.LineEndCRLF, UTF8: s.opts.UTF8, From: s.from,
	})
	if err != nil {
		return err
	}
	defer w.Abort()
	opportunistic := g.route.Mode == Opportunistic
	held, err := s.feed(w, src, first, opportunistic)
	if opportunistic && !first.done && len(w.Info().KeyIDs) == 0 && errors.Is(err, kmclient.ErrKeyExhausted) {
		return s.inClear(g, io.MultiReader(held, src), dst)
	}
	info := w.Info()
	g.done = outcome{how: OutcomeEncrypted, suite: info.Suite, keys: len(info.KeyIDs), size: info.PlaintextSize}
	if len(info.KeyIDs) > 0 {
		g.done.keyID = info.KeyIDs[0]
	}
	return err
}

// feed writes src into the cipher, and closes it. It returns what it has
// written before the cipher wrote anything, where hold says so.
func (s *encryptSession) feed(w *cipher.Writer, src io.Reader, first *firstWrite, hold bool) (held *bytes.Buffer, err error) {
	held = new(bytes.Buffer)
	b, used := block.Get(), 0
	defer func() { b.Free(used) }()
	buf := b[:]
	for {
		n, rerr := io.ReadFull(src, buf)
		used = max(used, n)
		if rerr != nil && rerr != io.EOF && rerr != io.ErrUnexpectedEOF { // session.read lets no other of these through
			return held, rerr
		}
		if hold && !first.done {
			held.Write(buf[:n])
		}
		if n > 0 {
			if _, err := w.Write(buf[:n]); err != nil {
				return held, err
			}
		}
		if first.done {
			held = new(bytes.Buffer)
		}
		if rerr != nil {
			return held, w.Close()
		}
	}
}

// A firstWrite notes that something was written.
type firstWrite struct {
	dst  io.Writer
	done bool
}

func (w *firstWrite) Write(p []byte) (int, error) {
	w.done = true
	return w.dst.Write(p)
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
