package mailer

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
)

// Step is what the options of [Encrypt] and [Decrypt] have in common. The zero
// value is good but for the Policy.
type Step struct {
	Policy   *Policy
	SAE      string // our own SAE ID; "": none
	Hostname string // in Received and Qkdmail-Result; "": localhost

	Limits      LimitsConfig  // of a message; zero: no limit, but for HeaderSize (256 KiB)
	KeyTimeout  time.Duration // for each fetch of keys, failover included; 0: 60 s
	MessageID   string        // LogMessageIDClear (also ""), LogMessageIDHash or LogMessageIDOff
	LogAddress  bool          // addresses in the log
	Logger      *slog.Logger  // one line a message; nil: none
	Observer    Observer      // told of each message; nil: nobody is
	LMTP        bool          // clients speak LMTP: recipients may need several transactions
	EightBit    func() bool   // whether the backend behind takes 8-bit content; nil: it does
	MaxSize     func() int64  // of a message that can be taken now, in bytes, 0 for any; nil: Limits.MessageSize
	Users       Users         // for AUTH PLAIN; nil: no authentication
	RequireAuth bool          // no mail from who has not authenticated

	memory *memory // of all messages under way, here and elsewhere; nil: as Limits say, for this step alone
}

func (s Step) withDefaults() Step {
	if s.Hostname == "" {
		s.Hostname = "localhost"
	}
	if s.Limits.HeaderSize <= 0 {
		s.Limits.HeaderSize = 256 << 10
	}
	if s.KeyTimeout <= 0 {
		s.KeyTimeout = 60 * time.Second
	}
	if s.Logger == nil {
		s.Logger = slog.New(slog.DiscardHandler)
	}
	if s.EightBit == nil {
		s.EightBit = func() bool { return true }
	}
	if s.memory == nil {
		s.memory = newMemory(s.Limits.Memory)
	}
	if s.MaxSize == nil {
		limit := s.Limits.MessageSize
		s.MaxSize = func() int64 { return limit }
	}
	return s
}

// Users checks a name and a password.
type Users interface {
	Check(user, password string) bool
}

// A session is what encrypting and decrypting sessions have in common.
type session struct {
	step    *Step
	client  client
	address string // of the client, "" if unknown
	ctx     context.Context
	cancel  context.CancelFunc
	authed  bool

	begun bool // a transaction
	from  string
	opts  smtp.MailOptions
	start time.Time
	lines *lineChecker // of the message; nil: there was no DATA yet
	data  bool         // memory is taken for the message
	taken atomic.Int64 // of memory, for the message and its recipients
}

func newSession(step *Step, c client) *session {
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

// mail notes the sender, from a client that may send. go-smtp lets a second
// MAIL through, and goes on with the recipients of the first.
func (s *session) mail(from string, opts *smtp.MailOptions) error {
	if s.step.RequireAuth && !s.authed {
		return refuse(530, smtp.EnhancedCode{5, 7, 0}, "authentication required", "Authentication required")
	}
	if s.begun {
		return refuse(503, smtp.EnhancedCode{5, 5, 1}, "sequence", "A transaction is under way") // RFC 5321 §4.1.4
	}
	if opts == nil {
		opts = &smtp.MailOptions{}
	}
	if r := checkAddress(from, opts.UTF8); r != nil {
		return r
	}
	// What the next hop would refuse in the end must not cost a pad.
	if limit := s.step.MaxSize(); limit > 0 && opts.Size > limit {
		return errTooLarge()
	}
	s.from, s.opts, s.start, s.begun = from, *opts, time.Now(), true
	return nil
}

// end ends the transaction.
func (s *session) end() {
	s.step.memory.give(s.taken.Swap(0))
	s.data = false
	s.from, s.opts, s.begun, s.lines, s.start = "", smtp.MailOptions{}, false, nil, time.Time{}
}

// refused logs a command before DATA that was refused, and returns what the
// client is answered.
func (s *session) refused(direction Direction, command string, err error) error {
	if err == nil {
		return nil
	}
	return s.finish(Report{Direction: direction, Command: command}, nil, err, slog.String("command", command))
}

// read checks DATA, which takes n bytes of memory, and returns its header. copies says
// how often that is held at a time.
func (s *session) read(r io.Reader, n int64, copies int) (*head, error) {
	if err := s.beginData(n); err != nil {
		return nil, err
	}
	s.lines = &lineChecker{src: r, maxLine: int(s.step.Limits.LineLength), maxSize: s.step.Limits.MessageSize}
	h, err := readHead(s.lines, int(s.step.Limits.HeaderSize), func(n int64) error { return s.take(int64(copies) * n) })
	if err != nil {
		return nil, err
	}
	if limit := s.step.Limits.Received; limit > 0 && h.count("Received") > limit {
		h.free()
		return nil, refuse(554, smtp.EnhancedCode{5, 4, 6}, "loop", "Too many hops") // RFC 5321 §6.3
	}
	return h, nil
}

// rest takes what a message that was refused early goes on with, so that the
// answer comes after it.
func (s *session) rest(r io.Reader) {
	if _, err := io.Copy(io.Discard, r); err != nil {
		s.dropped(broken(err))
	}
}

// received is our own trace field, RFC 5321 §4.4.
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
		";\r\n\t" + time.Now().Format("Mon, 2 Jan 2006 15:04:05 -0700") + "\r\n"
}

// protocol is how the message came, as RFC 3848 and RFC 6531 §4.3 name it.
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

// oneWord keeps what a client calls itself from ending the clause it stands
// in.
func oneWord(s string) string {
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune(" ();\"\\", r) {
			return '_'
		}
		return r
	}, s)
}

// dropped closes the connection of a client that stopped in the middle of
// DATA: go-smtp would go on, and take the rest of the message for commands.
func (s *session) dropped(err error) {
	if errors.Is(err, errDropped) {
		_ = s.client.Close()
	}
}

// finish logs and reports a message, and returns what the client is answered.
func (s *session) finish(r Report, h *head, err error, attrs ...slog.Attr) error {
	var reply *refusal
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
	log = append(log, slog.Int("code", reply.Code), slog.String("reason", reply.reason))
	if reply.reason == reasonNextHop {
		log = append(log, slog.String("answer", s.loggable(reply.Message)))
	}
	if reply.cause != nil {
		log = append(log, slog.String("cause", s.loggable(reply.cause.Error())))
	}
	what := "refused"
	if r.Delivered > 0 {
		what = "delivered in part"
	}
	s.step.Logger.LogAttrs(s.ctx, slog.LevelWarn, what, append(log, slog.Int("delivered", r.Delivered))...)
	return reply.SMTPError
}

// answer is what the next hop said to a message, for the log.
func (s *session) answer(next smtp.Session) []slog.Attr {
	a, ok := next.(interface{ Answer() string })
	if !ok || a.Answer() == "" {
		return nil
	}
	return []slog.Attr{slog.String("answer", s.loggable(a.Answer()))}
}

// loggable is what others said without addresses, unless these are wanted.
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

func (s *session) messageID(h *head) string {
	id := printable(h.messageID)
	if len(id) > 200 {
		id = id[:200]
	}
	switch {
	case id == "", s.step.MessageID == LogMessageIDOff:
		return ""
	case s.step.MessageID == LogMessageIDHash:
		sum := sha256.Sum256([]byte(id))
		return hex.EncodeToString(sum[:8])
	}
	return id
}

// printable makes what others said harmless in a log or a header.
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

// plainReply strips a refusal to what go-smtp passes on.
func plainReply(err error) error {
	if err == nil {
		return nil
	}
	return replyTo(err).SMTPError
}
