package smtpserver

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/emersion/go-smtp"
	"github.com/qkdmail/qkdmail/mailer/internal/smtpwire"
)

// carryOut carries out a command.
func (c *Conn) carryOut(line string) {
	verb, arg := smtpwire.Command(line)
	if strings.ContainsFunc(line, func(r rune) bool { return r < ' ' && r != '\t' && r != '\r' && r != '\n' || r == 0x7F }) ||
		strings.Contains(strings.TrimRight(line, "\r\n"), "\r") {
		c.refuse(500, smtp.EnhancedCode{5, 5, 2}, "Control character in a command")
		return
	}
	c.protect(func() { c.dispatch(verb, arg) })
}

func (c *Conn) dispatch(verb, arg string) {
	switch verb {
	case "HELO", "EHLO", "LHLO":
		c.greet(verb, arg)
	case "STARTTLS":
		c.startTLS(arg)
	case "XFORWARD":
		c.forward(arg)
	case "NOOP":
		c.done(nil, smtp.EnhancedCode{2, 0, 0}, "Ok")
	case "RSET":
		c.reset()
		c.done(nil, smtp.EnhancedCode{2, 0, 0}, "Ok")
	case "QUIT":
		c.hangUp(221, smtp.EnhancedCode{2, 0, 0}, "Bye")
	case "VRFY":
		c.reply(252, smtp.EnhancedCode{2, 5, 0}, "Send some mail, and see") // RFC 5321 §3.5.3
	case "BDAT":
		// A chunk follows, which would be taken for commands.
		c.hangUp(502, smtp.EnhancedCode{5, 5, 1}, "CHUNKING is not offered")
	case "AUTH", "MAIL", "RCPT", "DATA":
		c.transact(verb, arg)
	case "HELP":
		c.reply(214, smtp.EnhancedCode{2, 0, 0}, "EHLO shows what is offered; see RFC 5321") // §4.1.1.8
	case "EXPN", "SEND", "SOML", "SAML", "TURN":
		// RFC 5321 §3.5.2 and Appendix F leave these to the server. The relay has no
		// lists, no terminals and no mail to send back.
		c.refuse(502, smtp.EnhancedCode{5, 5, 1}, verb+" is not offered")
	default:
		c.refuse(500, smtp.EnhancedCode{5, 5, 2}, "Command unknown")
	}
}

// transact carries out a command that needs a session.
func (c *Conn) transact(verb, arg string) {
	switch {
	case c.session == nil:
		c.refuse(503, smtp.EnhancedCode{5, 5, 1}, "Introduce yourself first")
	case c.settings.RequireTLS && !c.TLS():
		c.refuse(530, smtp.EnhancedCode{5, 7, 0}, "Must issue a STARTTLS command first") // RFC 3207 §4
	case verb == "AUTH":
		c.authenticate(arg)
	case verb == "MAIL":
		c.mailFrom(arg)
	case verb == "RCPT":
		c.rcptTo(arg)
	case arg != "":
		c.refuse(501, smtp.EnhancedCode{5, 5, 4}, "DATA has no parameters")
	default:
		c.takeData()
	}
}

// greet carries out EHLO, HELO and LHLO, which begin a session or reset it: RFC 5321
// §4.1.1.1, RFC 2033 §4.1.
func (c *Conn) greet(verb, arg string) {
	switch {
	case c.server.LMTP != (verb == "LHLO"):
		c.refuse(500, smtp.EnhancedCode{5, 5, 1}, "This server speaks "+map[bool]string{false: "SMTP", true: "LMTP"}[c.server.LMTP])
		return
	case arg == "":
		c.refuse(501, smtp.EnhancedCode{5, 5, 4}, "Say who you are")
		return
	}
	c.hello, _, _ = strings.Cut(arg, " ")
	c.extended = verb != "HELO"
	if c.session != nil {
		c.reset()
	} else {
		s, err := c.server.NewSession(c)
		if err != nil {
			c.done(err, smtp.NoEnhancedCode, "")
			return
		}
		c.session = s
	}
	lines := []string{c.server.Hostname}
	if c.extended {
		lines = append(lines, c.extensions()...)
	}
	c.done(nil, smtp.NoEnhancedCode, strings.Join(lines, "\n"))
}

// extensions returns what is offered now, a line each.
func (c *Conn) extensions() []string {
	offers := c.settings.Offers()
	lines := []string{"PIPELINING", "ENHANCEDSTATUSCODES"}
	add := func(offered bool, line string) {
		if offered {
			lines = append(lines, line)
		}
	}
	add(offers.EightBit, "8BITMIME")
	add(offers.UTF8, "SMTPUTF8")
	add(offers.DSN, "DSN")
	add(c.settings.TLS != nil && !c.TLS(), "STARTTLS")
	add(Contains(c.settings.XForward, Address(c.RemoteAddr())), "XFORWARD NAME ADDR PORT PROTO HELO IDENT SOURCE")
	if mechanisms := c.mechanisms(); len(mechanisms) > 0 {
		lines = append(lines, "AUTH "+strings.Join(mechanisms, " "))
	}
	add(c.settings.Recipients > 0, fmt.Sprintf("LIMITS RCPTMAX=%d", c.settings.Recipients)) // RFC 9422
	if offers.Size > 0 {
		return append(lines, fmt.Sprintf("SIZE %d", offers.Size))
	}
	return append(lines, "SIZE")
}

// reset ends the transaction.
func (c *Conn) reset() {
	c.mail, c.rcpts = false, nil
	if c.session != nil {
		c.session.Reset()
	}
}

// startTLS carries out STARTTLS, RFC 3207. What a client has sent in clear after the
// command must not be taken for commands inside TLS.
func (c *Conn) startTLS(arg string) {
	switch {
	case arg != "":
		c.refuse(501, smtp.EnhancedCode{5, 5, 4}, "STARTTLS has no parameters")
		return
	case c.settings.TLS == nil:
		c.refuse(502, smtp.EnhancedCode{5, 5, 1}, "TLS is not offered")
		return
	case c.TLS():
		c.refuse(503, smtp.EnhancedCode{5, 5, 1}, "TLS has begun already")
		return
	case len(c.in.buffered()) > 0:
		c.hangUp(554, smtp.EnhancedCode{5, 5, 1}, "Commands came after STARTTLS")
		return
	}
	c.reply(220, smtp.EnhancedCode{2, 0, 0}, "Ready to start TLS")
	if c.Flush() != nil {
		return
	}
	conn := tls.Server(c.raw, c.settings.TLS)
	ctx, cancel := context.WithCancel(context.Background())
	if c.settings.Idle > 0 {
		ctx, cancel = context.WithTimeout(context.Background(), c.settings.Idle)
	}
	defer cancel()
	if conn.HandshakeContext(ctx) != nil {
		_ = c.Close()
		return
	}
	// What the client said before no longer counts (RFC 3207 §4.2).
	c.logout()
	c.conn, c.in = conn, newInput(conn)
	c.hello, c.extended, c.authed, c.mail, c.rcpts, c.xforward = "", false, false, false, nil, nil
	c.refused = 0
}

// forward carries out XFORWARD, with which a trusted mail system names its client:
// https://www.postfix.org/XFORWARD_README.html
func (c *Conn) forward(arg string) {
	if !Contains(c.settings.XForward, Address(c.RemoteAddr())) {
		c.refuse(550, smtp.EnhancedCode{5, 7, 1}, "XFORWARD is not allowed from here")
		return
	}
	attributes := map[string]string{}
	for field := range strings.FieldsSeq(arg) {
		name, value, ok := strings.Cut(field, "=")
		name = strings.ToUpper(name)
		if !ok || len(value) > 255 || !isAttribute(name) {
			c.refuse(501, smtp.EnhancedCode{5, 5, 4}, "Bad XFORWARD parameter")
			return
		}
		if value == "[UNAVAILABLE]" || value == "[TEMPUNAVAIL]" {
			value = "" // before the queue, for example, there is no queue ID
		}
		attributes[name] = smtpwire.DecodeXtext(value)
	}
	if c.xforward == nil {
		c.xforward = map[string]string{}
	}
	maps.Copy(c.xforward, attributes)
	c.done(nil, smtp.EnhancedCode{2, 0, 0}, "Ok")
}

func isAttribute(name string) bool {
	switch name {
	case "NAME", "ADDR", "PORT", "PROTO", "HELO", "IDENT", "SOURCE":
		return true
	}
	return false
}

// mechanisms returns the mechanisms with which the client can authenticate.
func (c *Conn) mechanisms() []string {
	if c.session == nil {
		return nil
	}
	return c.session.AuthMechanisms()
}

// authenticate carries out AUTH, RFC 4954.
func (c *Conn) authenticate(arg string) {
	mechanism, initial, given := strings.Cut(arg, " ")
	mechanism = strings.ToUpper(mechanism)
	switch {
	case c.authed, c.mail:
		c.refuse(503, smtp.EnhancedCode{5, 5, 1}, "Not now") // §4
		return
	case !slices.Contains(c.mechanisms(), mechanism):
		c.refuse(504, smtp.EnhancedCode{5, 5, 4}, "Mechanism not offered")
		return
	}
	exchange, err := c.session.Auth(mechanism)
	if err != nil {
		c.done(err, smtp.NoEnhancedCode, "")
		return
	}
	var response []byte
	if given {
		if response, err = decodeResponse(strings.TrimSpace(initial)); err != nil {
			c.refuse(501, smtp.EnhancedCode{5, 5, 2}, "Not base64")
			return
		}
	}
	for {
		challenge, done, err := exchange.Next(response)
		switch {
		case err != nil:
			c.refused++ // a client that guesses is cut off
			c.done(err, smtp.NoEnhancedCode, "")
			if c.refused > maxRefused {
				c.hangUp(421, smtp.EnhancedCode{4, 7, 0}, "Too many errors")
			}
			return
		case done:
			c.authed, c.refused = true, 0
			c.reply(235, smtp.EnhancedCode{2, 7, 0}, "Authentication succeeded")
			return
		}
		c.reply(334, smtp.NoEnhancedCode, base64.StdEncoding.EncodeToString(challenge))
		line, err := c.readCommand()
		if err != nil {
			_ = c.Close()
			return
		}
		text := strings.TrimRight(string(line), "\r\n")
		if response, err = decodeResponse(text); text == "*" || err != nil {
			c.refuse(501, smtp.EnhancedCode{5, 7, 0}, "Authentication cancelled")
			return
		}
	}
}

// decodeResponse decodes a client's part of an exchange; "=" is empty.
func decodeResponse(s string) ([]byte, error) {
	if s == "=" {
		return []byte{}, nil
	}
	return base64.StdEncoding.DecodeString(s)
}
