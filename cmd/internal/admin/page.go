package admin

import (
	"bytes"
	"embed"
	"html/template"
	"net/http"
	"strings"
	"time"
)

//go:embed assets
var assets embed.FS

// pages serves the status page and its style sheet, script and icon.
func (m *Monitor) pages(mux *http.ServeMux) {
	page := template.Must(template.New("page.html").Funcs(template.FuncMap{
		"grouped": grouped, "glyph": glyph, "word": word, "capital": capital, "times": func(n int) string { return times(int64(n)) },
		"kept":   func() int { return latestKept },
		"iso":    func(t time.Time) string { return t.Format(time.RFC3339) },
		"format": func(layout string, t time.Time) string { return t.Format(layout) },
	}).ParseFS(assets, "assets/page.html"))
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		var b bytes.Buffer
		if err := page.Execute(&b, m.view()); err != nil {
			m.s.Logger.Error("the status page failed", "error", err)
			http.Error(w, "the status page failed; the cause is in the log", http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write(b.Bytes()) // an error: the caller has gone
	})
	for name, kind := range map[string]string{
		"page.css": "text/css; charset=utf-8", "page.js": "text/javascript; charset=utf-8", "icon.svg": "image/svg+xml",
	} {
		mux.HandleFunc("GET /"+name, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", kind)
			http.ServeFileFS(w, r, assets, "assets/"+name)
		})
	}
}

// capital returns s with its first letter in upper case.
func capital(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

// glyph returns a sign for a state, for those who can see it; word is for
// everyone.
func glyph(s State) string {
	return map[State]string{StateOK: "✓", StateWarning: "!", StateFailed: "✕"}[s]
}

func word(s State) string {
	return map[State]string{StateOK: "Good", StateWarning: "Warning", StateFailed: "Failed"}[s]
}
