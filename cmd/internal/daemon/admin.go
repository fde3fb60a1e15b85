package daemon

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"sync"

	"github.com/qkdmail/qkdmail/cmd/internal/admin"
	"github.com/qkdmail/qkdmail/cmd/internal/cli"
	"github.com/qkdmail/qkdmail/kmclient/etsi014"
	"github.com/qkdmail/qkdmail/mailer"
	"github.com/spf13/cobra"
)

// adminFlag adds --admin to a command; what is what is served there.
func adminFlag(cmd *cobra.Command, address *string, what string) {
	cmd.Flags().StringVar(address, "admin", "", what+" are served here, HOST:PORT, or :PORT for loopback; there is no password")
}

// An adminListener serves something to administrators. A nil one serves nothing.
type adminListener struct {
	l    net.Listener
	log  *slog.Logger
	stop context.CancelFunc
	work sync.WaitGroup
}

// listenAdmin opens the address for administrators, if there is one.
func listenAdmin(ctx context.Context, c mailer.AdminConfig, log *slog.Logger) (*adminListener, error) {
	if c.Address == "" {
		return nil, nil
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", c.HostPort())
	if err != nil {
		return nil, cli.Fail(cli.ExitUnavailable, "give another address", "admin: %w", err)
	}
	log.Info("for administrators", "url", "http://"+l.Addr().String()+"/")
	if a, ok := l.Addr().(*net.TCPAddr); !ok || !a.IP.IsLoopback() {
		log.Warn("the address for administrators has no password and can be reached from other machines", "address", l.Addr().String())
	}
	return &adminListener{l: l, log: log}, nil
}

// serve begins to serve, until close is called. What fails is logged: mail goes
// on.
func (a *adminListener) serve(handler http.Handler, pprof bool) {
	if a == nil {
		return
	}
	var ctx context.Context
	ctx, a.stop = context.WithCancel(context.Background())
	a.work.Go(func() {
		if err := admin.Serve(ctx, a.l, handler, admin.ServeOptions{PProf: pprof, Logger: a.log}); err != nil {
			a.log.Error("nothing is served to administrators any more", "cause", err)
		}
	})
}

// close ends what was begun.
func (a *adminListener) close() {
	if a == nil {
		return
	}
	if a.stop == nil { // nothing was begun
		_ = a.l.Close()
		return
	}
	a.stop()
	a.work.Wait()
}

// watch begins to watch a relay, until ctx ends and close is called: readiness
// ends with ctx, while messages are still under way. It returns nil where nobody
// is to see it.
func (a *adminListener) watch(ctx context.Context, cfg *mailer.Config, relay *mailer.Relay, km *relayKM, version string) *admin.Monitor {
	if a == nil {
		return nil
	}
	s := admin.Sources{Config: cfg, Keys: km, NextHops: relay, Version: version, Logger: a.log}
	if km.kept != nil {
		s.Store, s.StoreWarnings = km.kept, km.kept.Warnings
	}
	if km.pool != nil {
		s.Pool = km.pool.Stats
	}
	if e, ok := km.base.(*etsi014.Client); ok {
		s.KMEs = e.Stats
	}
	m := admin.New(s)
	relay.Observe(m)
	a.work.Go(func() { m.Run(ctx) })
	a.serve(m.Handler(), cfg.Admin.PProf)
	return m
}
