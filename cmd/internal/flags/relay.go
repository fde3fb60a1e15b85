package flags

import (
	"cmp"
	"errors"
	"log/slog"

	"github.com/qkdmail/qkdmail/cmd/internal/terminal"
	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keystore"
	"github.com/qkdmail/qkdmail/kmclient/open"
	"github.com/qkdmail/qkdmail/mailer"
	"github.com/qkdmail/qkdmail/mailer/relay/config"
)

// BadConfig gives an error of a relay's configuration its exit code.
func BadConfig(err error) error {
	if errors.Is(err, mailer.ErrConfig) {
		return terminal.Fail(terminal.ExitConfig, "see docs/relay.toml for every key", "%w", err)
	}
	return err
}

// OpenConfigured opens the key manager of a relay's configuration, without a pool or a
// store.
func OpenConfigured(cfg *config.Config, log *slog.Logger) (kmclient.KeyManager, error) {
	return open.KeyManager(cfg.KM.URL, openOptions(&cfg.KM, log))
}

func openOptions(km *config.KM, log *slog.Logger) open.Options {
	return open.Options{
		CAFile: km.CA, CertFile: km.Cert, KeyFile: km.Key, KMEID: km.KMEID, SAE: km.SAE, Timeout: km.RequestTimeout, Logger: log,
	}
}

// Or returns s with its empty fields taken from a relay's configuration.
func (s Store) Or(c config.Store) Store {
	s.Path = cmp.Or(s.Path, c.Path)
	s.Key = cmp.Or(s.Key, c.Key)
	return s
}

// KeepOptions returns the options of a relay's key store.
func KeepOptions(cfg *config.Config, log *slog.Logger) keystore.Options {
	return keystore.Options{
		SAE: cfg.KM.SAE, Close: cfg.Store.Close, Tombstones: cfg.Store.Tombstones, Undelivered: cfg.Store.Undelivered, Logger: log,
	}
}
