package mailer

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
)

// HopOptions say where a next hop is and how it is spoken to.
type HopOptions struct {
	Network, Address string // "tcp" and HOST:PORT, or "unix" and a path
	LMTP             bool
	Hostname         string // what we call ourselves

	TLS       TLSMode // "": TLSOff
	TLSConfig *tls.Config

	User, Password string // AUTH PLAIN, over TLS only; "": none

	MaxConns int           // at one time; 0: 500
	MaxIdle  int           // of them kept open; 0: 20
	IdleFor  time.Duration // how long; 0: 1 minute

	Connect  time.Duration // 0: 30 s
	Command  time.Duration // for each answer before the final dot; 0: 5 min
	AfterDot time.Duration // for the answer after it; 0: 9 min: Postfix waits for ten
	Upload   time.Duration // for each write of DATA; 0: 3 min

	Logger *slog.Logger // may be nil
}

func (o HopOptions) withDefaults() HopOptions {
	duration := func(d *time.Duration, fallback time.Duration) {
		if *d <= 0 {
			*d = fallback
		}
	}
	duration(&o.IdleFor, time.Minute)
	duration(&o.Connect, 30*time.Second)
	duration(&o.Command, 5*time.Minute)
	duration(&o.AfterDot, 9*time.Minute)
	duration(&o.Upload, 3*time.Minute)
	if o.MaxConns <= 0 {
		o.MaxConns = 500
	}
	if o.MaxIdle <= 0 {
		o.MaxIdle = 20
	}
	if o.TLS == "" {
		o.TLS = TLSOff
	}
	if o.Hostname == "" {
		o.Hostname = "localhost"
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

// A NextHop delivers to another server, over SMTP or LMTP: it is a backend
// whose sessions are transactions there. Connections are kept and used again.
type NextHop struct {
	opts  HopOptions
	slots chan struct{} // one for each connection that is in use

	mu     sync.Mutex
	idle   []*hopConn // the one used last is last
	offers offers
	known  bool // offers were seen
	closed bool
}

// NewNextHop returns a NextHop. It connects when there is something to
// deliver, or with Probe.
func NewNextHop(o HopOptions) *NextHop {
	o = o.withDefaults()
	return &NextHop{opts: o, slots: make(chan struct{}, o.MaxConns)}
}

// A hopConn is a connection to the next hop between two transactions.
type hopConn struct {
	*smtp.Client
	clear net.Conn  // where DATA may go in clear; nil: go-smtp has the TLS connection
	since time.Time // of its last use
	fresh bool      // nothing was delivered through it yet
}

// uploadConn gives each write a deadline of its own: go-smtp's client has none
// for DATA.
type uploadConn struct {
	net.Conn
	timeout time.Duration
}

func (c *uploadConn) Write(p []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(c.timeout)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

// Probe connects, to learn what the next hop offers.
func (h *NextHop) Probe(ctx context.Context) error {
	c, err := h.dial(ctx)
	if err != nil {
		return err
	}
	h.put(c)
	return nil
}

// acquire waits until another connection may be used. release gives it back.
func (h *NextHop) acquire() error {
	timer := time.NewTimer(h.opts.Connect)
	defer timer.Stop()
	select {
	case h.slots <- struct{}{}:
		return nil
	case <-timer.C:
		return refuse(451, smtp.EnhancedCode{4, 3, 2}, "next hop busy", "Too many connections to the next hop, try again later")
	}
}

func (h *NextHop) release() { <-h.slots }

// get returns a kept connection, or a new one.
func (h *NextHop) get(ctx context.Context, fresh bool) (*hopConn, error) {
	for !fresh {
		h.mu.Lock()
		if len(h.idle) == 0 {
			h.mu.Unlock()
			break
		}
		c := h.idle[len(h.idle)-1]
		h.idle = h.idle[:len(h.idle)-1]
		h.mu.Unlock()
		if time.Since(c.since) < h.opts.IdleFor {
			return c, nil
		}
		_ = c.Close()
	}
	return h.dial(ctx)
}

// put keeps a connection that is between two transactions.
func (h *NextHop) put(c *hopConn) {
	c.since, c.fresh = time.Now(), false
	h.mu.Lock()
	if !h.closed && len(h.idle) < h.opts.MaxIdle {
		h.idle = append(h.idle, c)
		c = nil
	}
	h.mu.Unlock()
	if c != nil {
		_ = c.Close()
	}
}

// Close closes the connections that are kept; those in use are not kept any
// more.
func (h *NextHop) Close() error {
	h.mu.Lock()
	idle := h.idle
	h.idle, h.closed = nil, true
	h.mu.Unlock()
	for _, c := range idle {
		_ = c.Quit()
		_ = c.Close()
	}
	return nil
}

func (h *NextHop) dial(ctx context.Context) (*hopConn, error) {
	ctx, cancel := context.WithTimeout(ctx, h.opts.Connect)
	defer cancel()
	network := h.opts.Network
	if network == "" {
		network = "tcp"
	}
	conn, err := new(net.Dialer).DialContext(ctx, network, h.opts.Address)
	if err != nil {
		return nil, hopDown(err)
	}
	c, err := h.greet(&uploadConn{conn, h.opts.Upload})
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	h.learn(c)
	return c, nil
}

// greet says hello, in TLS where that is asked for, and authenticates.
func (h *NextHop) greet(conn net.Conn) (*hopConn, error) {
	c := &hopConn{clear: conn, fresh: true}
	newClient := smtp.NewClient
	if h.opts.LMTP {
		newClient = smtp.NewClientLMTP
	}
	c.Client = newClient(conn)
	h.timeouts(c)
	if err := c.Hello(h.opts.Hostname); err != nil {
		return nil, hopDown(err)
	}
	if h.opts.TLS != TLSOff {
		if ok, _ := c.Extension("STARTTLS"); ok {
			if err := h.startTLS(c, conn); err != nil {
				return nil, hopDown(err)
			}
		} else if h.opts.TLS == TLSRequired {
			return nil, hopDown(errors.New("it offers no STARTTLS"))
		}
	}
	if h.opts.User != "" {
		if _, ok := c.TLSConnectionState(); !ok {
			return nil, hopDown(errors.New("no AUTH without TLS"))
		}
		if err := c.Auth(sasl.NewPlainClient("", h.opts.User, h.opts.Password)); err != nil {
			return nil, hopDown(err)
		}
	}
	return c, nil
}

// startTLS replaces the client by one in TLS.
func (h *NextHop) startTLS(c *hopConn, conn net.Conn) error {
	config := h.opts.TLSConfig.Clone()
	if config == nil {
		config = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	if config.ServerName == "" {
		config.ServerName, _, _ = strings.Cut(h.opts.Address, ":")
	}
	config.InsecureSkipVerify = h.opts.TLS != TLSRequired
	client, err := smtp.NewClientStartTLS(conn, config)
	if err != nil {
		return err
	}
	c.Client, c.clear = client, nil
	h.timeouts(c)
	return c.Hello(h.opts.Hostname)
}

func (h *NextHop) timeouts(c *hopConn) {
	c.CommandTimeout, c.SubmissionTimeout = h.opts.Command, h.opts.AfterDot
}

// hopDown is the refusal where the next hop can't be reached.
func hopDown(err error) *refusal {
	return refuse(451, smtp.EnhancedCode{4, 4, 1}, "next hop down", "The next hop can't be reached, try again later").
		because(fmt.Errorf("next hop: %w", err))
}

// learn notes what the next hop offers.
func (h *NextHop) learn(c *hopConn) {
	has := func(name string) bool { ok, _ := c.Extension(name); return ok }
	o := offers{EightBit: has("8BITMIME"), UTF8: has("SMTPUTF8"), DSN: has("DSN")}
	if _, size := c.Extension("SIZE"); size != "" {
		o.Size, _ = strconv.ParseInt(strings.Fields(size)[0], 10, 64)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.known || o != h.offers {
		h.opts.Logger.Info("next hop seen", "next_hop", h.opts.Address, "8bitmime", o.EightBit, "smtputf8", o.UTF8, "dsn", o.DSN, "size", o.Size)
	}
	h.offers, h.known = o, true
}

// seen returns what the next hop was last seen to offer; nothing if it never
// was.
func (h *NextHop) seen() offers {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.offers
}

// wasSeen reports whether the next hop was reached since the start.
func (h *NextHop) wasSeen() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.known
}

// NewSession returns a session whose transactions are delivered.
func (h *NextHop) NewSession(*smtp.Conn) (smtp.Session, error) { return &hopSession{hop: h}, nil }

// A hopSession is a transaction at the next hop.
type hopSession struct {
	hop    *NextHop
	conn   *hopConn
	rcpts  []string
	answer string // of the next hop, to DATA
}

// Mail begins a transaction.
func (s *hopSession) Mail(from string, opts *smtp.MailOptions) error {
	s.Reset()
	if err := s.hop.acquire(); err != nil {
		return err
	}
	conn, err := s.begin(from, opts)
	if err != nil {
		s.hop.release()
		return err
	}
	s.conn = conn
	return nil
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
		var reply *smtp.SMTPError
		var own *refusal
		switch {
		case err == nil:
			return conn, nil
		case errors.As(err, &own), errors.As(err, &reply) && reply.Code != 421:
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
			return refuse(550, smtp.EnhancedCode{5, 6, 7}, "smtputf8", "The next hop does not support SMTPUTF8")
		}
	}
	return c.Mail(from, &o)
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
	var refused *smtp.SMTPError
	if errors.As(err, &refused) && refused.Code != 421 {
		return err
	}
	return refuse(451, smtp.EnhancedCode{4, 4, 2}, "next hop lost", "The connection to the next hop was lost, try again later").because(err)
}

// Rcpt passes a recipient and the answer on.
func (s *hopSession) Rcpt(to string, opts *smtp.RcptOptions) error {
	if s.conn == nil {
		return refuse(503, smtp.EnhancedCode{5, 5, 1}, "sequence", "No transaction")
	}
	if err := s.conn.Rcpt(to, opts); err != nil {
		return s.lost(err)
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
		return nil, refuse(503, smtp.EnhancedCode{5, 5, 1}, "sequence", "No transaction")
	}
	s.conn = nil
	defer s.hop.release()
	w, err := c.Data()
	if err != nil {
		_ = c.Close()
		return nil, s.lost(err)
	}
	if err := s.upload(c, w, produce); err != nil {
		_ = c.Close()
		return nil, err
	}
	answers, err := s.finish(w)
	var refused *smtp.SMTPError
	if err == nil || errors.As(err, &refused) && refused.Code != 421 {
		s.hop.put(c)
	} else {
		_ = c.Close()
	}
	if err != nil {
		err = s.lost(err)
	}
	return answers, err
}

// upload writes the octets of DATA, but for the final dot. An error of the
// connection is told before that of produce, which may come from it.
func (s *hopSession) upload(c *hopConn, w io.Writer, produce producer) error {
	if c.clear == nil {
		out := &hopWriter{dst: w}
		if err := produce(out); out.err == nil {
			return err
		}
		return s.lost(out.err)
	}
	out := newDataWriter(c.clear)
	defer out.free()
	err := produce(out)
	if err == nil {
		err = out.flush()
	}
	if out.err != nil {
		return s.lost(out.err)
	}
	return err
}

// A hopWriter remembers that it was the next hop that failed.
type hopWriter struct {
	dst io.Writer
	err error
}

func (w *hopWriter) Write(p []byte) (n int, err error) {
	n, w.err = w.dst.Write(p)
	return n, w.err
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
	if errors.As(err, &refusals) {
		for rcpt, e := range refusals {
			answers[rcpt] = s.lost(e)
			err = e // for who asks for one answer only
		}
	}
	return answers, err
}

// Reset ends the transaction.
func (s *hopSession) Reset() {
	if s.conn != nil {
		s.abandon(s.conn)
		s.hop.release()
	}
	s.conn, s.rcpts, s.answer = nil, nil, ""
}

// Logout ends the session.
func (s *hopSession) Logout() error {
	s.Reset()
	return nil
}
