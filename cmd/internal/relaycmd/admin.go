package relaycmd

import (
	"context"
	"log/slog"

	"github.com/qkdmail/qkdmail/cmd/internal/admin"
	"github.com/qkdmail/qkdmail/cmd/internal/terminal"
	"github.com/qkdmail/qkdmail/kmclient/etsi014"
	"github.com/qkdmail/qkdmail/mailer/relay"
	"github.com/qkdmail/qkdmail/mailer/relay/config"
)

// watch serves the state of a relay until ctx has ended and l is closed. It returns nil
// if l is nil.
func watch(ctx context.Context, l *admin.Listener, cfg *config.Config, relay *relay.Relay, keys *relayKeys, log *slog.Logger) *admin.Monitor {
	if l == nil {
		return nil
	}
	s := admin.Sources{Config: cfg, Keys: keys.front, NextHops: relay, Version: terminal.Version(), Logger: log}
	if keys.store != nil {
		s.Store, s.StoreWarnings = keys.store, keys.store.Warnings
	}
	if keys.pool != nil {
		s.Pool = keys.pool.Stats
	}
	if e, ok := keys.base.(*etsi014.Client); ok {
		s.KMEs = e.Stats
	}
	m := admin.New(s)
	relay.Observe(m)
	l.Watch(ctx, m, cfg.Admin.PProf)
	return m
}
