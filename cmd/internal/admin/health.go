package admin

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
)

// Handler serves the status page, /healthz, /readyz and /metrics.
func (m *Monitor) Handler() http.Handler {
	mux := healthMux(m.Checks)
	mux.Handle("GET /metrics", metricsHandler(m.reg))
	m.pages(mux)
	return mux
}

// healthMux serves /healthz and /readyz.
func healthMux(checks func() []Check) *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { text(w, http.StatusOK, "ok\n") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) { ready(w, r, checks()) })
	return mux
}

// ready answers with all checks, as JSON if that is asked for, else as text.
func ready(w http.ResponseWriter, r *http.Request, checks []Check) {
	code, word := http.StatusOK, "ready"
	if !Ready(checks) {
		code, word = http.StatusServiceUnavailable, "not ready"
	}
	if strings.Contains(r.Header.Get("Accept"), "application/json") {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		_ = json.NewEncoder(w).Encode(struct {
			Ready  bool    `json:"ready"`
			Checks []Check `json:"checks"`
		}{code == http.StatusOK, checks}) // an error: the caller has gone
		return
	}
	var b strings.Builder
	fmt.Fprintln(&b, word)
	for _, c := range checks {
		fmt.Fprintf(&b, "%-12s %-8s %s\n", c.Name, c.State, strings.TrimSpace(c.Found+" "+c.Advice))
	}
	text(w, code, b.String())
}

func text(w http.ResponseWriter, code int, body string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(code)
	_, _ = w.Write([]byte(body)) // an error: the caller has gone
}
