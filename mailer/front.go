package mailer

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/emersion/go-smtp"
)

// A front is the connection of a client as go-smtp sees it. It does what
// go-smtp leaves no room for:
//
//   - It offers in EHLO what can be kept at this moment, and not what go-smtp
//     always offers (CHUNKING, 8BITMIME).
//   - It speaks STARTTLS and XFORWARD itself. After STARTTLS go-smtp still
//     sees plain text, so that the first point holds there as well.
//   - Every read has a deadline of its own, and DATA a minimum rate: go-smtp's
//     ReadTimeout spans the whole of DATA.
//   - It hands DATA to the session itself.
//   - It sends replies together, as RFC 2920 §3.2 has it: go-smtp writes each
//     line of one by itself.
//
// go-smtp is given one command line at a time, so that a command which the
// front takes for itself is never in go-smtp's buffer.
type front struct {
	net.Conn          // the client's connection
	plain    net.Conn // the same, or TLS on it
	opts     *frontOptions
	in       intake // of plain
	closed   func() // told when the connection is closed; may be nil
	rest     []byte // of the line being handed to go-smtp
	out      heldReplies

	mu       sync.Mutex // guards what sessions read
	xforward map[string]string
	tls      bool

	waiting  bool // for a command: may be ended (guarded by mu)
	stopping bool // the relay stops
	gone     bool // closed, or it will be: what is buffered is not carried out any more

	hello     bool // EHLO was the last command: replies are edited
	greeting  bool // a greeting is to be answered that STARTTLS needs
	needHello bool // STARTTLS was the last command
	bad       int  // commands in a row that the front itself refused

	data     dataState     // in DATA: where in its lines
	inData   bool          // and its end has not come
	dataEnd  bool          // go-smtp is to be told the end of DATA
	dataWait time.Duration // for the client
	dataSize int64
}

// frontOptions are those of a listener.
type frontOptions struct {
	TLS        *tls.Config // nil: no STARTTLS
	RequireTLS bool
	XFORWARD   func(net.Addr) bool // may this client send XFORWARD
	Offers     func() offers       // what can be kept now
	Idle       time.Duration       // between commands
	DataIdle   time.Duration       // between two reads of DATA
	MinRate    int64               // octets a second of DATA, after DataIdle
	Write      time.Duration
	LMTP       bool
}

// offers are the extensions that are offered depending on the next hop.
type offers struct {
	EightBit bool
	UTF8     bool
	DSN      bool
	Size     int64 // 0: unknown
}

// Longest command line, RFC 5321 §4.5.3.1.4 with room for its extensions, and
// how many commands the front refuses before it hangs up.
const (
	maxCommand = 2048
	maxBad     = 10
)

func newFront(conn net.Conn, opts *frontOptions) *front {
	conn = newPatientConn(conn)
	return &front{Conn: conn, plain: conn, opts: opts, in: newIntake(conn)}
}

// frontOf returns the front of a session's connection, nil where a program of
// its own serves it.
func frontOf(c *smtp.Conn) *front {
	if c == nil {
		return nil
	}
	f, _ := c.Conn().(*front)
	return f
}

// Close closes the connection. What was answered goes out before.
func (f *front) Close() error {
	_ = f.flush()
	if f.closed != nil {
		f.closed()
	}
	f.mu.Lock()
	conn := f.plain
	f.gone = true
	f.mu.Unlock()
	return conn.Close() // TLS says goodbye
}

// SetReadDeadline and the like are ours: go-smtp sets one for a whole DATA.
func (f *front) SetReadDeadline(time.Time) error  { return nil }
func (f *front) SetWriteDeadline(time.Time) error { return nil }
func (f *front) SetDeadline(time.Time) error      { return nil }

// errTooSlow is a client that sends DATA below the minimum rate.
var errTooSlow = fmt.Errorf("%w: it sends too slowly", errDropped)

// Read hands go-smtp the next command line. Of DATA, which the session has read,
// go-smtp sees the end only; what the session has left of it is thrown away.
func (f *front) Read(p []byte) (int, error) {
	for len(f.rest) == 0 {
		if f.dataEnd {
			if _, err := io.Copy(io.Discard, dataReader{front: f}); err != nil {
				_ = f.Close() // go-smtp would go on
				return 0, err
			}
			f.dataEnd = false
			f.rest = []byte(".\r\n")
			break
		}
		if !f.wait(true) {
			f.reply("421 4.3.2 The relay is stopping, try again later")
			_ = f.flush()
			return 0, io.EOF
		}
		line, err := f.line()
		stopped := !f.wait(false)
		if err != nil {
			if stopped {
				continue // and say so
			}
			return 0, err
		}
		if f.take(line) {
			continue
		}
		f.rest = readableORCPT(line)
	}
	n := copy(p, f.rest)
	f.rest = f.rest[n:]
	return n, nil
}

// wait notes that the front waits for a command, or does so no more, and
// reports whether the relay goes on.
func (f *front) wait(waiting bool) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.waiting = waiting
	return !f.stopping
}

// stop ends a connection that is between two commands, now or when it gets
// there. A message under way comes to its end.
func (f *front) stop() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stopping = true
	if f.waiting {
		_ = f.Conn.SetReadDeadline(time.Unix(1, 0))
	}
}

// line reads a command. Before it waits for one it sends what was answered.
func (f *front) line() ([]byte, error) {
	if !f.in.hasLine() {
		if err := f.flush(); err != nil {
			return nil, err
		}
	}
	if err := f.patience(); err != nil {
		return nil, err
	}
	return f.in.line()
}

// dataFollows reports whether the client has sent DATA behind the command that
// is being handled, as PIPELINING allows.
func (f *front) dataFollows() bool {
	if f == nil {
		return false
	}
	next := f.in.buffered()
	return len(next) >= len(dataCommand) && strings.EqualFold(string(next[:len(dataCommand)]), dataCommand)
}

// patience sets how long a command is waited for: not at all once the connection
// is closed, or stop was called, whose deadline must not be undone.
func (f *front) patience() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.gone:
		return net.ErrClosed
	case f.stopping:
		return os.ErrDeadlineExceeded
	case f.opts.Idle > 0:
		return f.plain.SetReadDeadline(time.Now().Add(f.opts.Idle))
	}
	return f.plain.SetReadDeadline(time.Time{})
}

// take handles a command that is not for go-smtp, and notes what go-smtp will
// answer to the others.
func (f *front) take(line []byte) bool {
	text := strings.TrimSuffix(strings.TrimSuffix(string(line), "\n"), "\r")
	if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7F }) {
		return f.reply("500 5.5.2 Control character in a command")
	}
	verb, arg, _ := strings.Cut(text, " ")
	verb = strings.ToUpper(verb)
	f.hello, f.greeting = false, false
	if f.needHello {
		switch verb {
		case "EHLO", "LHLO", "HELO": // needed until one is answered with 250
			f.greeting = true
		case "QUIT", "NOOP", "RSET":
		default:
			return f.reply("503 5.5.1 Introduce yourself first")
		}
	}
	switch verb {
	case "EHLO", "LHLO":
		f.hello = true
		return false
	case "STARTTLS":
		return f.startTLS(arg)
	case "XFORWARD":
		return f.forward(arg)
	case "BDAT":
		// What follows is a chunk and no command, and was never offered.
		f.reply("502 5.5.1 CHUNKING is not offered")
		_ = f.Close()
		return true
	case "MAIL", "AUTH":
		if f.opts.RequireTLS && !f.isTLS() {
			return f.reply("530 5.7.0 Must issue a STARTTLS command first") // RFC 3207 §4
		}
	}
	return false
}

// reply answers a command that go-smtp does not see.
func (f *front) reply(text string) bool {
	if text[0] == '5' {
		if f.bad++; f.bad > maxBad {
			_ = f.Close()
			return true
		}
	}
	_ = f.write([]byte(text + "\r\n"))
	return true
}

// startTLS is RFC 3207. What a client sent behind the command in clear would
// otherwise be taken for commands inside TLS.
func (f *front) startTLS(arg string) bool {
	switch {
	case arg != "":
		return f.reply("501 5.5.4 STARTTLS has no parameters")
	case f.opts.TLS == nil:
		return f.reply("502 5.5.1 TLS not supported")
	case f.isTLS():
		return f.reply("503 5.5.1 Already running in TLS")
	case len(f.in.buffered()) > 0:
		f.reply("554 5.5.1 Commands behind STARTTLS")
		_ = f.Close()
		return true
	}
	f.reply("220 2.0.0 Ready to start TLS")
	if f.flush() != nil {
		_ = f.Close()
		return true
	}
	conn := tls.Server(f.Conn, f.opts.TLS)
	ctx, cancel := context.WithTimeout(context.Background(), f.opts.Idle)
	defer cancel()
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = f.Close()
		return true
	}
	f.mu.Lock()
	f.tls, f.xforward, f.plain = true, nil, conn
	f.mu.Unlock()
	f.in = newIntake(conn)
	f.needHello = true
	return true
}

func (f *front) isTLS() bool {
	if f == nil {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.tls
}

// Write takes a reply of go-smtp, which writes them line by line.
func (f *front) Write(p []byte) (int, error) {
	f.bad = 0
	switch {
	case bytes.HasPrefix(p, []byte("354 ")):
		f.inData, f.dataEnd, f.data, f.dataWait, f.dataSize = true, true, dataState{}, 0, 0
	case f.greeting && bytes.HasPrefix(p, []byte("250")):
		f.needHello, f.greeting = false, false
	}
	if f.hello && bytes.HasPrefix(p, []byte("250")) {
		return len(p), f.editHello(p)
	}
	return len(p), f.write(p)
}

// editHello changes a line of the answer to EHLO. The last line, which has a
// blank in the place of the hyphen, is kept: go-smtp ends with SIZE or LIMITS.
func (f *front) editHello(line []byte) error {
	name, _, _ := strings.Cut(strings.TrimRight(string(line[4:]), "\r\n"), " ")
	offer := f.opts.Offers()
	text := string(line)
	switch name {
	case "CHUNKING":
		return nil
	case "8BITMIME":
		if !offer.EightBit {
			return nil
		}
	case "SMTPUTF8":
		if !offer.UTF8 {
			return nil
		}
	case "DSN":
		if !offer.DSN {
			return nil
		}
	case "SIZE":
		if offer.Size > 0 {
			text = fmt.Sprintf("%sSIZE %d\r\n", line[:4], offer.Size)
		}
	case "PIPELINING":
		if f.opts.TLS != nil && !f.isTLS() {
			text += "250-STARTTLS\r\n"
		}
		if f.opts.XFORWARD != nil && f.opts.XFORWARD(f.RemoteAddr()) {
			text += "250-XFORWARD NAME ADDR PORT PROTO HELO IDENT SOURCE\r\n"
		}
	}
	return f.write([]byte(text))
}

// printable makes what a client said harmless in a log or a header.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
}
