package kmsim

import (
	"log/slog"
	"net/http"
	"time"
)

// A Request is what Options.Observe gets to know of a request. None of it is
// text chosen by a caller.
type Request struct {
	KME       string // its ID; "" for the QMail REST API
	Operation string // status, enc_keys, dec_keys; get, by_id, close; or other
	Status    int    // of HTTP; 0 if no answer was sent
	Keys      int    // handed out
	Took      time.Duration
}

// operation names what a request asks for.
func operation(r *http.Request) string {
	const other = "other"
	s := pathSegments(r)
	switch {
	case len(s) == 5 && (s[4] == "status" || s[4] == "enc_keys" || s[4] == "dec_keys"):
		return s[4]
	case len(s) == 3 && s[2] == "status":
		return s[2]
	case len(s) != 4 || s[2] != "keys":
		return other
	case r.Method == http.MethodPost && s[3] == "get":
		return "get"
	case r.Method == http.MethodGet, r.Method == http.MethodHead:
		return "by_id"
	case r.Method == http.MethodDelete:
		return "close"
	}
	return other
}

// logRequest writes a line of the access log, without the query and with the
// path cut to a reasonable length.
func (c *core) logRequest(r *http.Request, info *call, status int, took time.Duration) {
	const most = 300
	path := r.URL.EscapedPath()
	if len(path) > most {
		path = path[:most] + "…"
	}
	attrs := []slog.Attr{
		slog.String("method", r.Method), slog.String("path", path), slog.String("sae", info.sae),
		slog.Int("status", status), slog.Int("keys", info.keys), slog.Duration("took", took),
	}
	level := slog.LevelInfo
	if status == 0 || status >= 500 {
		level = slog.LevelWarn
	}
	if status == 0 {
		attrs = append(attrs, slog.Bool("cut", true))
	}
	c.o.Logger.LogAttrs(r.Context(), level, "request", attrs...)
}
