package relaycmd

import (
	"context"
	"log/slog"

	"github.com/qkdmail/qkdmail/cmd/internal/admin"
	"github.com/qkdmail/qkdmail/kmclient/etsi014"
	"github.com/qkdmail/qkdmail/mailer/relay"
	"github.com/qkdmail/qkdmail/mailer/relay/config"
)

// watch begins to watch a relay, until ctx ends and the listener is closed. It
// returns nil without a listener.
func watch(ctx context.Context, l *admin.Listener, cfg *config.Config, relay *relay.Relay, km *relayKM, version string, log *slog.Logger) *admin.Monitor {
	if l == nil {
		return nil
	}
	s := admin.Sources{Config: cfg, Keys: km.front, NextHops: relay, Version: version, Logger: log}
	if km.store != nil {
		s.Store, s.StoreWarnings = km.store, km.store.Warnings
	}
	if km.pool != nil {
		s.Pool = km.pool.Stats
	}
	if e, ok := km.base.(*etsi014.Client); ok {
		s.KMEs = e.Stats
	}
	m := admin.New(s)
	relay.Observe(m)
	l.Watch(ctx, m, cfg.Admin.PProf)
	return m
}
