package relaycmd

import (
	"context"
	"log/slog"

	"github.com/qkdmail/qkdmail/cmd/internal/flags"
	"github.com/qkdmail/qkdmail/cmd/internal/terminal"
	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keypool"
	"github.com/qkdmail/qkdmail/kmclient/keystore"
	"github.com/qkdmail/qkdmail/mailer"
	"github.com/qkdmail/qkdmail/mailer/relay"
	"github.com/qkdmail/qkdmail/mailer/relay/config"
)

// relayKeys supplies a relay's keys: a pool of sending keys, in front of a store of
// receiving keys, in front of the key manager.
type relayKeys struct {
	front kmclient.KeyManager // the first of the three that exists
	pool  *keypool.Pool       // may be nil
	store *keystore.Store     // may be nil
	base  kmclient.KeyManager
}

func (k *relayKeys) forRelay() relay.Keys {
	if k.store == nil {
		return relay.WithoutStore(k.front)
	}
	return relay.Keys{Source: k.front, Finder: k.store, Binder: k.store, Deliveries: k.store, Claims: k.store}
}

// openKeys opens the key manager of a configuration, with its pool and its store.
func openKeys(ctx context.Context, cfg *config.Config, store flags.Store, log *slog.Logger) (*relayKeys, error) {
	base, err := flags.OpenConfigured(cfg, log)
	if err != nil {
		return nil, err
	}
	k := &relayKeys{front: base, base: base}
	if k.store, err = store.Keep(ctx, base, flags.KeepOptions(cfg, log)); err != nil {
		_ = k.close()
		return nil, err
	}
	if k.store != nil {
		k.front = k.store
	}
	if cfg.KM.Pool && cfg.Does(mailer.DirectionEncrypt) {
		if k.pool, err = keypool.New(k.front, cfg.KM.PoolOptions()); err != nil {
			_ = k.close()
			return nil, err
		}
		k.front = k.pool
	}
	return k, nil
}

// close wipes the keys that were fetched ahead, and stores those that could not be stored
// earlier. The error says how many are lost.
func (k *relayKeys) close() (err error) {
	if k.pool != nil {
		_ = k.pool.Close(context.Background())
	}
	if k.store != nil {
		err = flags.CloseStore(k.store)
	}
	return err
}

// end closes k when the relay stops. Lost keys are logged, and the error decides the exit
// code.
func (k *relayKeys) end(log *slog.Logger) error {
	err := k.close()
	if err == nil {
		return nil
	}
	log.Error("the relay stops, and its key store was not closed properly", "error", err)
	return terminal.Fail(terminal.ExitIO, "repair the store; mail that needs a lost key must be sent again", "%w", err)
}
