package relaycmd

import (
	"context"
	"fmt"
	"log/slog"
	"os"

	"github.com/qkdmail/qkdmail/cmd/internal/admin"
	"github.com/qkdmail/qkdmail/cmd/internal/terminal"
	"github.com/qkdmail/qkdmail/mailer"
	"github.com/qkdmail/qkdmail/mailer/relay"
	"github.com/qkdmail/qkdmail/mailer/relay/config"
)

// inForce returns the configuration with the store that the flags name.
func (r *relayFlags) inForce(cfg *config.Config) *config.Config {
	c := *cfg
	store := r.store.Or(c.Store)
	c.Store.Path, c.Store.Key = store.Path, store.Key
	return &c
}

// reloads reloads the configuration on SIGHUP.
func (r *relayFlags) reloads(ctx context.Context, hup <-chan os.Signal, relay *relay.Relay, monitor *admin.Monitor, old *config.Config, log *slog.Logger) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-hup:
		}
		cfg, err := r.again(old)
		if err == nil {
			err = relay.Reload(cfg)
		}
		if err != nil {
			log.Error("configuration not reloaded, the old one stays", "cause", terminal.OneLine(err, ""))
			continue
		}
		collectGarbage(&cfg.Limits)
		if monitor != nil {
			monitor.Reload(r.inForce(cfg))
		}
		log.Info("configuration reloaded")
	}
}

// again loads the configuration once more. It returns an error if something has changed
// that needs a new process.
func (r *relayFlags) again(old *config.Config) (*config.Config, error) {
	cfg, err := r.load()
	if err != nil {
		return nil, err
	}
	if err := cfg.CheckFiles(); err != nil {
		return nil, err
	}
	switch {
	case cfg.Store != old.Store:
		return nil, fmt.Errorf("%w: [store] has changed: restart for that", mailer.ErrConfig)
	case cfg.Admin != old.Admin:
		return nil, fmt.Errorf("%w: [admin] has changed: restart for that", mailer.ErrConfig)
	}
	return cfg, nil
}
