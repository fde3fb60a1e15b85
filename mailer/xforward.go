package mailer

import (
	"maps"
	"strings"
)

// forward is XFORWARD, by which a trusted mail system tells whose mail it
// passes on: https://www.postfix.org/XFORWARD_README.html
func (f *front) forward(arg string) bool {
	if f.opts.XFORWARD == nil || !f.opts.XFORWARD(f.RemoteAddr()) {
		return f.reply("550 5.7.1 XFORWARD is not allowed from here")
	}
	attributes := map[string]string{}
	for field := range strings.FieldsSeq(arg) {
		name, value, ok := strings.Cut(field, "=")
		name = strings.ToUpper(name)
		if !ok || len(value) > 255 || !isXForward(name) {
			return f.reply("501 5.5.4 Bad XFORWARD parameter")
		}
		if value == "[UNAVAILABLE]" || value == "[TEMPUNAVAIL]" {
			value = "" // before the queue there is no queue ID, for one
		}
		attributes[name] = printable(value)
	}
	f.mu.Lock()
	if f.xforward == nil {
		f.xforward = map[string]string{}
	}
	maps.Copy(f.xforward, attributes)
	f.mu.Unlock()
	return f.reply("250 2.0.0 OK")
}

func isXForward(name string) bool {
	switch name {
	case "NAME", "ADDR", "PORT", "PROTO", "HELO", "IDENT", "SOURCE":
		return true
	}
	return false
}

// XForward returns an attribute that a trusted client has sent.
func (f *front) XForward(name string) string {
	if f == nil {
		return ""
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.xforward[name]
}
