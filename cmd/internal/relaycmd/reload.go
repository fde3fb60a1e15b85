package relaycmd

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"time"

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

// A reloader reloads the configuration of a running relay.
type reloader struct {
	flags   *relayFlags
	relay   *relay.Relay
	monitor *admin.Monitor // may be nil
	log     *slog.Logger

	first *config.Config // as the relay was started with
	seen  keyFiles       // those of the configuration that was last tried
}

// run reloads the configuration on SIGHUP, and when a key file has changed.
func (r *reloader) run(ctx context.Context, hup <-chan os.Signal, look <-chan time.Time) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-hup:
			r.again()
		case <-look:
			r.look()
		}
	}
}

// look reloads the configuration if a key file has changed since the last look.
func (r *reloader) look() {
	changed := false
	if r.seen, changed = r.seen.again(); changed {
		r.log.Info("a key file has changed")
		r.again()
	}
}

// again reloads the configuration and logs the outcome.
func (r *reloader) again() {
	err := r.reload()
	if err == nil {
		r.log.Info("configuration reloaded")
		return
	}
	r.log.Error("configuration not reloaded, the old one stays", "cause", terminal.OneLine(err, ""))
	if r.monitor != nil {
		r.monitor.NotReloaded()
	}
}

// reload loads the configuration again and puts it in force, or changes nothing.
func (r *reloader) reload() error {
	cfg, err := r.flags.load()
	if err != nil {
		return err
	}
	r.seen = lookAt(cfg.KeyFiles())
	if err := mayReplace(cfg, r.first); err != nil {
		return err
	}
	if err := r.relay.Reload(cfg); err != nil {
		return err
	}
	collectGarbage(&cfg.Limits)
	if r.monitor != nil {
		r.monitor.Reload(r.flags.inForce(cfg))
	}
	return nil
}

// mayReplace returns an error if a file of the configuration can't be used, or if
// cfg differs from first in something that needs a new process.
func mayReplace(cfg, first *config.Config) error {
	if err := cfg.CheckFiles(); err != nil {
		return err
	}
	switch {
	case cfg.Store != first.Store:
		return fmt.Errorf("%w: [store] has changed: restart for that", mailer.ErrConfig)
	case cfg.Admin != first.Admin:
		return fmt.Errorf("%w: [admin] has changed: restart for that", mailer.ErrConfig)
	}
	return nil
}
