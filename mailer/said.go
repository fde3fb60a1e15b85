package mailer

import (
	"log/slog"
	"maps"
	"strings"
)

// maxSaid is how much of a next hop's words is passed on, in bytes: with the code they
// fit on one line of a reply.
const maxSaid = 400

// Said returns what the next hop said when it took the message for these recipients, for
// the reply to the client: usually its queue ID, by which the message can be traced. It
// is one line of printable ASCII, "" if the next hop said nothing.
func (s *session) Said(rcpts ...string) string {
	var b strings.Builder
	before := map[string]bool{"": true}
	for _, rcpt := range rcpts {
		said := s.said[rcpt]
		if before[said] {
			continue
		}
		before[said] = true
		if b.Len() > 0 {
			b.WriteString("; ")
		}
		if b.WriteString(printable(said)); b.Len() > maxSaid {
			return b.String()[:maxSaid]
		}
	}
	return b.String()
}

// heard keeps what the next hop said, for Said.
func (s *session) heard(a answer) {
	if s.said == nil {
		s.said = make(map[string]string, len(a.said))
	}
	maps.Copy(s.said, a.said)
}

// saidTo returns by recipient what the next hop said to each of them, or to all.
func saidTo(rcpts, said []string) map[string]string {
	if len(said) == 0 {
		return nil
	}
	by := make(map[string]string, len(rcpts))
	for i, rcpt := range rcpts {
		if text := said[min(i, len(said)-1)]; text != "" { // of one named twice, what was said when it was taken
			by[rcpt] = text[:min(len(text), maxSaid)]
		}
	}
	return by
}

// saidAttrs is what the next hop said, for the log.
func (s *session) saidAttrs(rcpts []string) []slog.Attr {
	said := s.Said(rcpts...)
	if said == "" {
		return nil
	}
	return []slog.Attr{slog.String("answer", s.loggable(said))}
}
