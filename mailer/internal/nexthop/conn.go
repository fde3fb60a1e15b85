package nexthop

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/qkdmail/qkdmail/mailer/internal/smtpwire"
)

// A conn is a connection to the next hop.
type conn struct {
	net.Conn
	opts       *Options
	in         *bufio.Reader
	extensions map[string]string // keyword, in upper case, and parameters
	idle       *time.Timer       // closes it if it is kept too long
	kept       bool              // it was used before
	messages   int               // that went through it
	most       int               // messages that may
	out        []byte            // commands that are queued
}

func newConn(c net.Conn, o *Options) *conn {
	return &conn{Conn: c, opts: o, in: bufio.NewReader(c)}
}

// Write writes within the time for an upload.
func (c *conn) Write(p []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(c.opts.Upload)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

// queue adds a command that is sent with the next one.
func (c *conn) queue(command string) { c.out = append(append(c.out, command...), "\r\n"...) }

// send sends the commands that are queued.
func (c *conn) send() error {
	_, err := c.Write(c.out)
	c.out = c.out[:0]
	return err
}

// reply reads a reply within the time for a command.
func (c *conn) reply() (smtpwire.Reply, error) { return c.replyWithin(c.opts.Command) }

func (c *conn) replyWithin(wait time.Duration) (smtpwire.Reply, error) {
	if err := c.SetReadDeadline(time.Now().Add(wait)); err != nil {
		return smtpwire.Reply{}, err
	}
	return smtpwire.ReadReply(c.in)
}

// command sends a command and returns the reply.
func (c *conn) command(command string) (smtpwire.Reply, error) {
	c.queue(command)
	if err := c.send(); err != nil {
		return smtpwire.Reply{}, err
	}
	return c.reply()
}

// spoken reports whether the next hop has sent a reply without a command, which would be
// taken for the reply to the next one. It sees only what came with an earlier reply.
func (c *conn) spoken() bool { return c.in.Buffered() > 0 }

// quit sends QUIT, does not wait for the reply, and closes the connection.
func (c *conn) quit() {
	if c.SetWriteDeadline(time.Now().Add(time.Second)) == nil {
		_, _ = c.Conn.Write([]byte("QUIT\r\n"))
	}
	_ = c.Close()
}

// reset ends a transaction, and reports whether the connection can be used again. The
// reply is not passed on: it is about this connection alone.
func (c *conn) reset() bool {
	r, err := c.command("RSET")
	return outcome(r, err, 250) == nil
}

// offered reports whether the next hop offers an extension.
func (c *conn) offered(keyword string) bool {
	_, ok := c.extensions[keyword]
	return ok
}

// hello introduces the relay, and notes what the next hop offers. It says HELO to one
// that does not know EHLO: RFC 5321 §4.1.1.1.
func (c *conn) hello() error {
	verb := "EHLO "
	if c.opts.LMTP {
		verb = "LHLO "
	}
	r, err := c.command(verb + c.opts.Hostname)
	if err == nil && isUnknownCommand(r.Code) && !c.opts.LMTP {
		c.extensions = nil
		r, err = c.command("HELO " + c.opts.Hostname)
		return outcome(r, err, 250)
	}
	if err := outcome(r, err, 250); err != nil {
		return err
	}
	c.extensions = map[string]string{}
	for _, line := range r.Lines[min(1, len(r.Lines)):] {
		keyword, parameters, _ := strings.Cut(strings.TrimSpace(line), " ")
		c.extensions[strings.ToUpper(keyword)] = strings.TrimSpace(parameters)
	}
	return nil
}

func isUnknownCommand(code int) bool { return code == 500 || code == 501 || code == 502 || code == 504 }

// offers returns the extensions that the relay offers only if its next hop does.
func (c *conn) offers() smtpwire.Offers {
	o := smtpwire.Offers{EightBit: c.offered("8BITMIME"), UTF8: c.offered("SMTPUTF8"), DSN: c.offered("DSN")}
	if n, err := strconv.ParseInt(c.extensions["SIZE"], 10, 64); err == nil {
		o.Size = max(n, 0)
	}
	return o
}

// outcome returns the error of a command whose reply should have the code want, or one
// like it: the reply if it refuses, else errAnswer or what broke the connection. If the
// lines of a reply have several codes and the last one refuses, it decides.
func outcome(r smtpwire.Reply, err error, want int) error {
	switch {
	case errors.Is(err, smtpwire.ErrReply), errors.Is(err, smtpwire.ErrLongReply):
		return fmt.Errorf("%w: %w", errAnswer, err)
	case err != nil:
		return fmt.Errorf("%w: %w", errLost, err)
	case r.Code >= 400:
		return r.Err()
	case r.Code == r.First && isLike(r.Code, want):
		return nil
	}
	return fmt.Errorf("%w: %d to a command that is answered with %d", errAnswer, r.Code, want)
}

// isLike reports whether a code says the same as another: their first digits are equal
// (RFC 5321 §4.2). But a code about the connection (x2z, §4.2.1), such as a greeting's,
// is not a reply to a command about mail, nor the other way round: it belongs to
// something else.
func isLike(code, want int) bool {
	return code/100 == want/100 && isAboutConnection(code) == isAboutConnection(want)
}

func isAboutConnection(code int) bool { return code/10%10 == 2 }

// isFinal reports whether err is a refusal for good.
func isFinal(err error) bool {
	r, ok := errors.AsType[*smtp.SMTPError](err)
	return ok && r.Code/100 == 5
}

// refuses reports whether err is a refusal after which the connection goes on. After 421
// it does not (RFC 5321 §3.8).
func refuses(err error) bool {
	r, ok := errors.AsType[*smtp.SMTPError](err)
	return ok && r.Code != 421
}
