package smtpserver

import (
	"sync"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/qkdmail/qkdmail/mailer/internal/smtpwire"
)

// replies are held until the server waits for the client, so that they are sent together:
// RFC 2920 §3.2.
type replies struct {
	mu    sync.Mutex
	text  []byte
	timer *time.Timer // sends them; nil before the first
}

// How many bytes of replies are held, and for how long while more commands are carried
// out. Without a bound, a client could give up while a next hop takes its time with each
// recipient.
const (
	maxHeld  = 4 << 10
	holdHeld = time.Second
)

// reply answers the client, now or together with the next replies.
func (c *Conn) reply(code int, e smtp.EnhancedCode, text string) {
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	if len(c.out.text) == 0 {
		c.hold()
	}
	c.out.text = smtpwire.AppendReply(c.out.text, code, e, text)
	if len(c.out.text) >= maxHeld {
		_ = c.send()
	}
}

// hold makes sure that the replies are sent after a while. c.out.mu must be held.
func (c *Conn) hold() {
	if c.out.timer == nil {
		c.out.timer = time.AfterFunc(holdHeld, func() { _ = c.Flush() })
		return
	}
	c.out.timer.Reset(holdHeld)
}

// Flush sends the replies that are held.
func (c *Conn) Flush() error {
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	if len(c.out.text) == 0 {
		return nil
	}
	return c.send()
}

// send sends the replies that are held. A client that does not take them is gone.
// c.out.mu must be held.
func (c *Conn) send() error {
	c.out.timer.Stop()
	var err error
	if c.settings.Write > 0 {
		err = c.conn.SetWriteDeadline(time.Now().Add(c.settings.Write))
	}
	if err == nil {
		_, err = c.conn.Write(c.out.text)
	}
	if c.out.text = c.out.text[:0]; err != nil {
		c.mu.Lock()
		c.gone = true
		c.mu.Unlock()
	}
	return err
}

// refuse answers a command that no session sees. After too many such commands in a row it
// hangs up.
func (c *Conn) refuse(code int, e smtp.EnhancedCode, text string) {
	c.reply(code, e, text)
	if c.refused++; c.refused > maxRefused {
		c.hangUp(421, smtp.EnhancedCode{4, 7, 0}, "Too many errors")
	}
}

// hangUp answers and closes the connection.
func (c *Conn) hangUp(code int, e smtp.EnhancedCode, text string) {
	c.reply(code, e, text)
	_ = c.Close()
}

// done answers a command that a session has carried out: with text if err is nil.
func (c *Conn) done(err error, ok smtp.EnhancedCode, text string) {
	if err == nil {
		c.refused = 0
		c.reply(250, ok, text)
		return
	}
	r := asReply(err)
	c.reply(r.Code, r.EnhancedCode, r.Message)
}

// asReply returns the reply for an error of a session. An error that is not a reply is a
// fault of the relay, and its text is not for the client. Nor is a 421 a session's reply:
// it is the last one on a connection (RFC 5321 §3.8), and others may have to follow.
func asReply(err error) *smtp.SMTPError {
	if r, ok := err.(*smtp.SMTPError); ok && r.Code >= 400 && r.Code <= 599 && r.Code != 421 {
		return r
	}
	return &smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 3, 0}, Message: "Internal error, try again later"}
}
