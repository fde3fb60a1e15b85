package admin

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"time"
)

// How long the server waits, and how much it accepts.
const (
	headerTimeout   = 5 * time.Second
	readTimeout     = 10 * time.Second
	writeTimeout    = 2 * time.Minute // a CPU profile takes 30 seconds
	idleTimeout     = time.Minute
	shutdownTimeout = 5 * time.Second
	maxHeader       = 16 << 10 // bytes
	maxConns        = 64       // see conns
)

// ServeOptions are the choices of [Serve].
type ServeOptions struct {
	PProf  bool         // Go's profiles as well
	Logger *slog.Logger // may be nil
}

// Serve serves handler on l, for GET and HEAD only, until ctx ends. Requests under
// way then get five seconds. It closes l.
func Serve(ctx context.Context, l net.Listener, handler http.Handler, o ServeOptions) error {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	server := &http.Server{
		Handler: guard(l.Addr(), withProfiles(handler, o.PProf)), MaxHeaderBytes: maxHeader,
		ReadHeaderTimeout: headerTimeout, ReadTimeout: readTimeout,
		WriteTimeout: writeTimeout, IdleTimeout: idleTimeout,
		ConnState: newConns(maxConns).note,
		ErrorLog:  slog.NewLogLogger(o.Logger.Handler(), slog.LevelDebug),
	}
	stopped := make(chan error, 1)
	ctx, stop := context.WithCancel(ctx)
	go func() {
		<-ctx.Done()
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
		defer cancel()
		err := server.Shutdown(grace)
		if err != nil { // a profile that takes longer
			err = server.Close()
		}
		stopped <- err
	}()
	err := server.Serve(l)
	stop()
	if errors.Is(err, http.ErrServerClosed) {
		err = nil
	}
	return errors.Join(err, <-stopped)
}

func withProfiles(handler http.Handler, on bool) http.Handler {
	if !on {
		return handler
	}
	mux := http.NewServeMux()
	mux.Handle("/", handler)
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return mux
}

// policy is the Content-Security-Policy of all answers: nothing from other servers,
// and nothing inline.
const policy = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// guard refuses requests that no handler should see, and sets headers on all
// answers.
func guard(at net.Addr, handler http.Handler) http.Handler {
	local := isLoopback(at.String())
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("Content-Security-Policy", policy)
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("X-Content-Type-Options", "nosniff")
		switch {
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			h.Set("Allow", "GET, HEAD")
			http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
		case local && r.Host != "" && !isLoopback(r.Host):
			// A web page elsewhere can point its own name at this machine (DNS
			// rebinding) and then read what is here. Browsers send the host;
			// HTTP/1.0 clients may not.
			http.Error(w, "this is served to this machine only: use a loopback address or localhost", http.StatusMisdirectedRequest)
		default:
			handler.ServeHTTP(w, r)
		}
	})
}

// isLoopback reports whether HOST or HOST:PORT is this machine by its name or
// address.
func isLoopback(hostPort string) bool {
	host := hostPort
	if h, _, err := net.SplitHostPort(hostPort); err == nil {
		host = h
	}
	if host == "localhost" {
		return true
	}
	if len(host) > 2 && host[0] == '[' && host[len(host)-1] == ']' {
		host = host[1 : len(host)-1]
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.IsLoopback()
}
