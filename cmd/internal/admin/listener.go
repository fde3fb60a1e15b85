package admin

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"sync"

	"github.com/qkdmail/qkdmail/mailer/relay/config"
)

// A Listener serves a handler to administrators. A nil one serves nothing.
type Listener struct {
	l    net.Listener
	log  *slog.Logger
	stop context.CancelFunc
	work sync.WaitGroup
}

// Listen opens the address for administrators. It returns nil if there is none.
func Listen(ctx context.Context, c config.Admin, log *slog.Logger) (*Listener, error) {
	if c.Address == "" {
		return nil, nil
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", c.HostPort())
	if err != nil {
		return nil, err
	}
	log.Info("for administrators", "url", "http://"+l.Addr().String()+"/")
	if a, ok := l.Addr().(*net.TCPAddr); !ok || !a.IP.IsLoopback() {
		log.Warn("the address for administrators has no password and can be reached from other machines", "address", l.Addr().String())
	}
	return &Listener{l: l, log: log}, nil
}

// Serve begins to serve handler until Close, and Go's profiles with pprof. A failure
// is logged and does not stop mail.
func (a *Listener) Serve(handler http.Handler, pprof bool) {
	if a == nil {
		return
	}
	var ctx context.Context
	ctx, a.stop = context.WithCancel(context.Background())
	a.work.Go(func() {
		if err := Serve(ctx, a.l, handler, ServeOptions{PProf: pprof, Logger: a.log}); err != nil {
			a.log.Error("administrators are no longer served", "cause", err)
		}
	})
}

// Watch begins to run a monitor and to serve it, until ctx has ended and Close is
// called. Readiness ends with ctx, while messages are still under way. Watch must not
// be called on a nil Listener.
func (a *Listener) Watch(ctx context.Context, m *Monitor, pprof bool) {
	a.work.Go(func() { m.Run(ctx) })
	a.Serve(m.Handler(), pprof)
}

// Close stops serving, and waits until that is done.
func (a *Listener) Close() {
	if a == nil {
		return
	}
	if a.stop == nil { // nothing was started
		_ = a.l.Close()
		return
	}
	a.stop()
	a.work.Wait()
}
