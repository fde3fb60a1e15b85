package mailer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
	"github.com/qkdmail/qkdmail/mailer/internal/contract"
	"github.com/qkdmail/qkdmail/mailer/internal/message"
	"github.com/qkdmail/qkdmail/mailer/internal/refusal"
)

// Step holds the options that [Encrypt] and [Decrypt] have in common. All but the Policy
// may be left out.
type Step struct {
	Policy   *Policy // must be set
	Hostname string  // in Received and Qkdmail-Result; "": localhost

	// Limits of a message, in bytes; 0: none, except for MaxHeader.
	MaxSize     int64
	MaxSizeNow  func() int64 // for a message that begins now, if that is less; 0: any; nil: MaxSize
	MaxLine     int          // without CRLF
	MaxHeader   int          // 0: 256 KiB
	MaxReceived int          // Received fields, against loops; 0: any number
	Memory      *Memory      // of all messages under way; nil: any

	LMTP        bool          // clients speak LMTP: recipients may need several transactions
	Users       Users         // for AUTH PLAIN; nil: no authentication
	RequireAuth bool          // no mail from a client that has not authenticated
	KeyTimeout  time.Duration // for each fetch of keys, failover included; 0: 60 s

	Now func() time.Time // the clock; nil: the system's

	// EightBit reports whether a session of next, which has recipients, takes 8-bit
	// content; nil: it does.
	EightBit func(next smtp.Session) bool
	// HandOver hands the message that write writes to a session of next. answers are for
	// single recipients, in the order in which they were accepted, if next answers for
	// each. said is what next said when it took the message, for the log and the client:
	// a text for each of these recipients, or one for all. If write fails, the message
	// must not be delivered, and err is write's. nil: LMTPData if LMTP is set and the
	// session has it, else Data.
	HandOver func(next smtp.Session, write func(dst io.Writer) error) (answers []error, said []string, err error)

	Logger     *slog.Logger           // one line a message; nil: none
	LogAddress bool                   // with addresses
	MessageID  func(id string) string // what the log has of a message ID, "" for nothing; nil: all of it
	Observer   Observer               // of each message; nil: none
}

// check reports what is missing, and sets defaults.
func (s *Step) check(next smtp.Backend) error {
	if next == nil || s.Policy == nil {
		return fmt.Errorf("%w: a next backend and a Policy must be set", ErrConfig)
	}
	if s.MaxSizeNow == nil {
		limit := s.MaxSize
		s.MaxSizeNow = func() int64 { return limit }
	}
	if s.EightBit == nil {
		s.EightBit = func(smtp.Session) bool { return true }
	}
	if s.MessageID == nil {
		s.MessageID = func(id string) string { return id }
	}
	if s.Now == nil {
		s.Now = time.Now
	}
	s.Hostname = cmp.Or(s.Hostname, "localhost")
	if s.MaxHeader <= 0 {
		s.MaxHeader = 256 << 10
	}
	if s.KeyTimeout <= 0 {
		s.KeyTimeout = 60 * time.Second
	}
	s.Logger = cmp.Or(s.Logger, slog.New(slog.DiscardHandler))
	s.Memory = cmp.Or(s.Memory, new(Memory))
	return nil
}

// Users checks a name and a password.
type Users interface {
	Check(user, password string) bool
}

// A session holds what the sessions of both steps have in common.
type session struct {
	step    *Step
	client  contract.Client
	address string // of the client, "" if unknown
	ctx     context.Context
	cancel  context.CancelFunc
	authed  bool

	begun bool // a transaction is under way
	from  string
	opts  smtp.MailOptions
	start time.Time
	lines *message.Checker  // of the message; nil: there was no DATA yet
	data  bool              // memory is taken for the message
	taken atomic.Int64      // memory for the message and its recipients, in bytes
	said  map[string]string // what the next hop said of the message, by recipient
}

func newSession(step *Step, c contract.Client) *session {
	ctx, cancel := context.WithCancel(context.Background())
	s := &session{step: step, client: c, ctx: ctx, cancel: cancel}
	if a := c.RemoteAddr(); a != nil {
		s.address = a.String()
	}
	return s
}

// AuthMechanisms offers PLAIN, over TLS only.
func (s *session) AuthMechanisms() []string {
	if s.step.Users == nil || !s.client.TLS() {
		return nil
	}
	return []string{sasl.Plain}
}

// Auth authenticates with PLAIN.
func (s *session) Auth(mechanism string) (sasl.Server, error) {
	if mechanism != sasl.Plain || len(s.AuthMechanisms()) == 0 {
		return nil, smtp.ErrAuthUnknownMechanism
	}
	return sasl.NewPlainServer(func(identity, user, password string) error {
		if identity != "" && identity != user || !s.step.Users.Check(user, password) {
			return smtp.ErrAuthFailed
		}
		s.authed = true
		return nil
	}), nil
}

// mail begins a transaction, for a client that may send. go-smtp lets a second MAIL
// through, and goes on with the recipients of the first.
func (s *session) mail(from string, opts *smtp.MailOptions) error {
	if s.step.RequireAuth && !s.authed {
		return refusal.New(530, smtp.EnhancedCode{5, 7, 0}, "authentication required", "Authentication required")
	}
	if s.begun {
		return refusal.New(503, smtp.EnhancedCode{5, 5, 1}, "sequence", "A transaction is under way") // RFC 5321 §4.1.4
	}
	if opts == nil {
		opts = &smtp.MailOptions{}
	}
	if r := checkAddress(from, opts.UTF8); r != nil {
		return r
	}
	// A message that the next hop would refuse must not cost a pad.
	if limit := s.step.MaxSizeNow(); limit > 0 && opts.Size > limit {
		return message.TooLarge()
	}
	s.from, s.opts, s.start, s.begun = from, *opts, time.Now(), true
	return nil
}

// end ends the transaction.
func (s *session) end() {
	s.step.Memory.give(s.taken.Swap(0))
	s.data = false
	s.from, s.opts, s.begun, s.lines, s.start, s.said = "", smtp.MailOptions{}, false, nil, time.Time{}, nil
}

// refused logs the refusal of a command before DATA, and returns the answer to the
// client.
func (s *session) refused(direction Direction, command string, err error, attrs ...slog.Attr) error {
	if err == nil {
		return nil
	}
	return s.finish(Report{Direction: direction, Command: command}, nil, err, append(attrs, slog.String("command", command))...)
}

// read begins to read DATA, which takes n bytes of memory, and returns it with its
// header read. copies is how many copies of the header are held at a time.
func (s *session) read(r io.Reader, n int64, copies int) (*message.Reader, error) {
	if err := s.beginData(n); err != nil {
		return nil, err
	}
	s.lines = &message.Checker{Src: r, MaxLine: s.step.MaxLine, MaxSize: s.step.MaxSize}
	h, err := message.NewReader(s.lines, s.step.MaxHeader, func(n int64) error { return s.take(int64(copies) * n) })
	if err != nil {
		return nil, err
	}
	if limit := s.step.MaxReceived; limit > 0 && h.Count("Received") > limit {
		h.Free()
		return nil, refusal.New(554, smtp.EnhancedCode{5, 4, 6}, "loop", "Too many hops") // RFC 5321 §6.3
	}
	return h, nil
}

// eightBit returns a writer to a session of the next hop that refuses 8-bit content if
// the session takes none.
func (s *session) eightBit(next smtp.Session, dst io.Writer) io.Writer {
	if s.step.EightBit(next) {
		return dst
	}
	return message.SevenBit(dst)
}

// rest reads what is left of a message that was refused early: the answer comes after
// it.
func (s *session) rest(r io.Reader) {
	if _, err := io.Copy(io.Discard, r); err != nil {
		s.dropped(message.Broken(err))
	}
}

// received returns the relay's trace field, RFC 5321 §4.4.
func (s *session) received() string {
	hello, address := "unknown", "unknown"
	if h := s.client.Hello(); h != "" {
		hello = printable(h)
		hello = hello[:min(len(hello), 255)] // RFC 5321 §4.5.3.1.2
	}
	if host, _, err := net.SplitHostPort(s.address); err == nil {
		address = host
	}
	if strings.Contains(address, ":") {
		address = "IPv6:" + address // RFC 5321 §4.1.3
	}
	return "Received: from " + oneWord(hello) + " ([" + address + "])\r\n\tby " + s.step.Hostname + " (qkdmail) with " + s.protocol() +
		";\r\n\t" + s.step.Now().Format("Mon, 2 Jan 2006 15:04:05 -0700") + "\r\n"
}

// protocol returns how the message came, as RFC 3848 and RFC 6531 §4.3 name it.
func (s *session) protocol() string {
	name := "SMTP"
	switch {
	case s.step.LMTP:
		name = "LMTP"
	case s.client.Extended() && !s.opts.UTF8:
		name = "ESMTP"
	}
	if s.opts.UTF8 {
		name = "UTF8" + name
	}
	if s.client.TLS() {
		name += "S"
	}
	if s.authed {
		name += "A"
	}
	return name
}

// oneWord keeps a name from ending the clause that contains it.
func oneWord(s string) string {
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune(" ();\"\\", r) {
			return '_'
		}
		return r
	}, s)
}

// dropped closes the connection of a client that stopped in the middle of DATA. go-smtp
// would go on, and take the rest of the message for commands.
func (s *session) dropped(err error) {
	if errors.Is(err, message.ErrDropped) {
		_ = s.client.Close()
	}
}

// finish logs and reports a message, and returns the answer to the client.
func (s *session) finish(r Report, h *message.Reader, err error, attrs ...slog.Attr) error {
	var reply *refusal.Refusal
	if err != nil {
		reply = replyTo(err)
		s.dropped(err)
	}
	s.report(r, reply)
	log := append(make([]slog.Attr, 0, 20), slog.String("direction", string(r.Direction)))
	if s.address != "" {
		log = append(log, slog.String("client", s.address))
	}
	for _, name := range []string{"IDENT", "ADDR"} {
		if v := s.client.XForward(name); v != "" {
			log = append(log, slog.String("client_"+strings.ToLower(name), printable(v)))
		}
	}
	if h != nil {
		if id := s.messageID(h); id != "" {
			log = append(log, slog.String("message_id", id))
		}
	}
	if s.step.LogAddress {
		log = append(log, slog.String("from", printable(s.from)))
	}
	log = append(log, attrs...)
	if !s.start.IsZero() {
		log = append(log, slog.Float64("seconds", time.Since(s.start).Seconds()))
	}
	if reply == nil {
		s.step.Logger.LogAttrs(s.ctx, slog.LevelInfo, "delivered", log...)
		return nil
	}
	log = append(log, slog.Int("code", reply.Code), slog.String("reason", reply.Reason))
	switch reply.Reason {
	case reasonNextHop:
		log = append(log, slog.String("answer", s.loggable(reply.Message)))
	case reasonRedirected:
		log = append(log, slog.String("alarm", reasonRedirected))
	}
	if reply.Cause != nil {
		log = append(log, slog.String("cause", s.loggable(reply.Cause.Error())))
	}
	what := "refused"
	if r.Delivered > 0 {
		what = "delivered in part"
	}
	s.step.Logger.LogAttrs(s.ctx, slog.LevelWarn, what, append(log, slog.Int("delivered", r.Delivered))...)
	return reply.SMTPError
}

// loggable returns a text from outside without addresses, unless addresses are logged.
func (s *session) loggable(text string) string {
	if !s.step.LogAddress && strings.Contains(text, "@") {
		words := strings.Fields(text)
		for i, w := range words {
			if strings.Contains(w, "@") {
				words[i] = "(address)"
			}
		}
		text = strings.Join(words, " ")
	}
	return printable(text)
}

func (s *session) messageID(h *message.Reader) string {
	id := printable(h.MessageID())
	if len(id) > 200 {
		id = id[:200]
	}
	if id == "" {
		return ""
	}
	return s.step.MessageID(id)
}

// printable makes a text from outside harmless in a log or a header.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
}

// logout ends the session.
func (s *session) logout() {
	s.end()
	s.cancel()
}

// plainReply returns the part of a refusal that go-smtp passes on.
func plainReply(err error) error {
	if err == nil {
		return nil
	}
	return replyTo(err).SMTPError
}
