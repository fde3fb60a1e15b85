package smtpserver

import (
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/emersion/go-smtp"
	"github.com/qkdmail/qkdmail/mailer/internal/smtpwire"
)

// mailFrom carries out MAIL, RFC 5321 §4.1.1.2.
func (c *Conn) mailFrom(arg string) {
	if c.mail {
		c.refuse(503, smtp.EnhancedCode{5, 5, 1}, "A transaction is under way") // §4.1.4
		return
	}
	from, params, bad := readPath(arg, "FROM:")
	if c.refuseBad(bad) {
		return
	}
	opts, bad := c.mailOptions(params)
	if c.refuseBad(bad) {
		return
	}
	err := c.session.Mail(from, opts)
	c.mail = err == nil
	c.done(err, smtp.EnhancedCode{2, 1, 0}, "Ok")
}

// rcptTo carries out RCPT, RFC 5321 §4.1.1.3.
func (c *Conn) rcptTo(arg string) {
	if !c.mail {
		c.refuse(503, smtp.EnhancedCode{5, 5, 1}, "MAIL comes first")
		return
	}
	to, params, bad := readPath(arg, "TO:")
	if bad == nil && to == "" {
		bad = badPath()
	}
	if c.refuseBad(bad) {
		return
	}
	opts, bad := c.rcptOptions(params)
	if c.refuseBad(bad) {
		return
	}
	if most := c.settings.Recipients; most > 0 && len(c.rcpts) >= most {
		c.reply(452, smtp.EnhancedCode{4, 5, 3}, "Too many recipients") // §4.5.3.1.10
		return
	}
	err := c.session.Rcpt(to, opts)
	if err == nil {
		c.rcpts = append(c.rcpts, to)
	}
	c.done(err, smtp.EnhancedCode{2, 1, 5}, "Ok")
}

// refuseBad refuses a command with bad syntax, and reports whether it did.
func (c *Conn) refuseBad(bad *smtp.SMTPError) bool {
	if bad != nil {
		c.refuse(bad.Code, bad.EnhancedCode, bad.Message)
	}
	return bad != nil
}

func readPath(arg, keyword string) (mailbox string, params []smtpwire.Param, refusal *smtp.SMTPError) {
	mailbox, rest, err := smtpwire.Path(arg, keyword)
	if err != nil {
		return "", nil, badPath()
	}
	if params, err = smtpwire.Params(rest); err != nil {
		return "", nil, badParameter(501, "Bad parameters")
	}
	return mailbox, params, nil
}

func badPath() *smtp.SMTPError {
	return &smtp.SMTPError{Code: 501, EnhancedCode: smtp.EnhancedCode{5, 5, 2}, Message: "Bad address syntax"}
}

// badParameter returns 501 for a parameter with a bad value, or 555 for one that is not
// offered: RFC 5321 §4.1.1.11.
func badParameter(code int, text string) *smtp.SMTPError {
	return &smtp.SMTPError{Code: code, EnhancedCode: smtp.EnhancedCode{5, 5, 4}, Message: text}
}

// mailOptions reads the parameters of MAIL, including those of extensions that the next
// hop does not have: the client may have been offered them before that was known.
func (c *Conn) mailOptions(params []smtpwire.Param) (*smtp.MailOptions, *smtp.SMTPError) {
	o := &smtp.MailOptions{}
	for _, p := range params {
		ok := true
		switch {
		case p.Name == "SIZE":
			o.Size, ok = readSize(p.Value)
		case p.Name == "BODY" && strings.EqualFold(p.Value, string(smtp.Body7Bit)):
			o.Body = smtp.Body7Bit
		case p.Name == "BODY" && strings.EqualFold(p.Value, string(smtp.Body8BitMIME)):
			o.Body = smtp.Body8BitMIME
		case p.Name == "SMTPUTF8":
			o.UTF8, ok = true, p.Value == ""
		case p.Name == "RET":
			o.Return = smtp.DSNReturn(strings.ToUpper(p.Value))
			ok = o.Return == smtp.DSNReturnFull || o.Return == smtp.DSNReturnHeaders
		case p.Name == "ENVID":
			o.EnvelopeID = informs(smtpwire.DecodeXtext(p.Value), smtpwire.MaxEnvID)
		case p.Name == "AUTH" && len(c.mechanisms()) > 0:
			// AUTH is not passed on (RFC 4954 §5).
		default:
			return nil, badParameter(555, "Parameter "+p.Name+" is not offered")
		}
		if !ok {
			return nil, badParameter(501, "Bad value of "+p.Name)
		}
	}
	return o, nil
}

// readSize reads SIZE, of up to 20 digits (RFC 1870 §3). One that is too large
// for an int64 is larger than any limit.
func readSize(s string) (int64, bool) {
	if s == "" || len(s) > 20 || strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		n = math.MaxInt64
	}
	return n, true
}

// rcptOptions reads the parameters of RCPT.
func (c *Conn) rcptOptions(params []smtpwire.Param) (*smtp.RcptOptions, *smtp.SMTPError) {
	o := &smtp.RcptOptions{}
	for _, p := range params {
		switch {
		case p.Name == "NOTIFY":
			var ok bool
			if o.Notify, ok = readNotify(p.Value); !ok {
				return nil, badParameter(501, "Bad value of NOTIFY")
			}
		case p.Name == "ORCPT":
			kind, address := smtpwire.DecodeORCPT(p.Value)
			if o.OriginalRecipient = informs(address, smtpwire.MaxORCPT); o.OriginalRecipient != "" {
				o.OriginalRecipientType = kind
			}
		default:
			return nil, badParameter(555, "Parameter "+p.Name+" is not offered")
		}
	}
	return o, nil
}

// informs returns a value that only informs, so that it is no reason to refuse mail,
// whatever it is. It returns "" for one that is too long or has control characters, which
// could end up in the header of a report.
func informs(value string, most int) string {
	if len(value) > most || strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r == 0x7F }) {
		return ""
	}
	return strings.Clone(value) // so that the line around it is not kept in memory
}

// readNotify reads NOTIFY: NEVER alone, or some of the others, each once
// (RFC 3461 §4.1).
func readNotify(value string) (list []smtp.DSNNotify, ok bool) {
	if strings.EqualFold(value, string(smtp.DSNNotifyNever)) {
		return []smtp.DSNNotify{smtp.DSNNotifyNever}, true
	}
	words := []smtp.DSNNotify{smtp.DSNNotifyDelayed, smtp.DSNNotifyFailure, smtp.DSNNotifySuccess}
	for word := range strings.SplitSeq(value, ",") {
		i := slices.IndexFunc(words, func(n smtp.DSNNotify) bool { return strings.EqualFold(word, string(n)) })
		if i < 0 || slices.Contains(list, words[i]) {
			return nil, false
		}
		list = append(list, words[i])
	}
	return list, true
}
