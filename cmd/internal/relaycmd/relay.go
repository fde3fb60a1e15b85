package relaycmd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	systemd "github.com/coreos/go-systemd/v22/daemon"
	"github.com/qkdmail/qkdmail/cmd/internal/admin"
	"github.com/qkdmail/qkdmail/cmd/internal/flags"
	"github.com/qkdmail/qkdmail/cmd/internal/terminal"
	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keypool"
	"github.com/qkdmail/qkdmail/kmclient/keystore"
	"github.com/qkdmail/qkdmail/mailer"
	"github.com/qkdmail/qkdmail/mailer/relay"
	"github.com/qkdmail/qkdmail/mailer/relay/config"
	"github.com/spf13/cobra"
)

// relayFlags are the flags of "relay".
type relayFlags struct {
	*flags.Globals
	config  string
	check   bool
	asJSON  bool
	mode    string
	listen  string
	nextHop string
	admin   string
	store   flags.Store
}

func newRelay(g *flags.Globals) *cobra.Command {
	r := &relayFlags{Globals: g}
	cmd := &cobra.Command{
		Use:   "relay [flags] [ADDRESS…]",
		Short: "Encrypt outgoing and decrypt arriving mail, between two mail systems",
		Long: `Stand between two mail systems, encrypt what leaves and decrypt what arrives,
over SMTP and LMTP, as a configuration file says (docs/relay.toml has every key).
SIGHUP reads it again; with an error in it, or where listeners, [km], [store] or
[admin] have changed, the old one stays and the log says why. SIGTERM stops: messages
under way come to their end.

The relay keeps no mail: it answers 250 when the next hop has, and without a key
it answers 451, so that the mail waits where it is.

Without a file, --mode, --listen and --next-hop are enough for one direction and
one peer; "lmtp:" before an address makes it LMTP.

--admin has a status page, health and metrics for Prometheus.

--check validates the file and the certificates, asks the key manager, opens the
key store, greets the next hops, prints what would happen to mail for each
ADDRESS, and ends. It tells all that it finds, with what to do about it.`,
		Example: `  qkdmail relay --config /etc/qkdmail/relay.toml
  qkdmail relay --config /etc/qkdmail/relay.toml --check bob@b.example
  qkdmail relay --mode encrypt --listen lmtp:127.0.0.1:10025 --next-hop 127.0.0.1:10026 \
      --km etsi014:https://kme-a.example:8443 --sae SAE_A --peer SAE_B \
      --km-cert sae_a.crt --km-key sae_a.key --km-ca ca.crt
  qkdmail relay --mode decrypt --listen 127.0.0.1:10035 --next-hop 127.0.0.1:10036 \
      --km https://km.example`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return flags.BadConfig(r.run(cmd, args))
		},
	}
	f := cmd.Flags()
	f.StringVarP(&r.config, "config", "c", "", "TOML file")
	f.BoolVar(&r.check, "check", false, "check the configuration and end")
	f.BoolVar(&r.asJSON, "json", false, "print JSON, a line for each finding of --check")
	f.StringVar(&r.mode, "mode", "", "encrypt or decrypt, without a file")
	f.StringVar(&r.listen, "listen", "", "address to listen at, without a file")
	f.StringVar(&r.nextHop, "next-hop", "", "address of the next hop, without a file")
	flags.Admin(f, &r.admin, "a status page, /healthz, /readyz and /metrics")
	r.store.Register(f, flags.StoreUsage)
	return cmd
}

// otherMemory is what the relay takes besides messages under way, in bytes: keys,
// the store, connections, and garbage.
const otherMemory = 64 << 20

// collectGarbage says when garbage is collected. That of small messages is given
// more time: a busy relay takes some 30 MiB more, and a tenth less of the processor.
// But it must not add up to more than messages may take. GOGC and GOMEMLIMIT in the
// environment have the last word.
func collectGarbage(limits *config.Limits) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(400)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(limits.MemoryBytes() + otherMemory)
	}
}

// load returns the configuration of the file or of the flags.
func (r *relayFlags) load() (*config.Config, error) {
	cfg, err := r.loadMail()
	if err != nil || r.admin == "" {
		return cfg, err
	}
	cfg.Admin.Address = r.admin
	return cfg, cfg.Check()
}

func (r *relayFlags) loadMail() (*config.Config, error) {
	quick := r.mode != "" || r.listen != "" || r.nextHop != ""
	switch {
	case r.config != "" && quick:
		return nil, terminal.Usage("--config excludes --mode, --listen and --next-hop")
	case r.config != "":
		return config.Load(r.config)
	case !quick:
		return nil, terminal.Usage("--config FILE, or --mode, --listen and --next-hop")
	}
	spec, err := r.Spec()
	if err != nil {
		return nil, err
	}
	if spec == "" {
		return nil, terminal.Fail(terminal.ExitConfig, flags.HowToNameKM, "no key manager is named")
	}
	return config.Quick(config.QuickOptions{
		Direction: mailer.Direction(r.mode), Listen: r.listen, NextHop: r.nextHop, Peer: r.Peer,
		KM: config.KM{URL: spec, SAE: r.SAE, CA: r.KMCA, Cert: r.KMCert, Key: r.KMKey, KMEID: r.KMEID},
	})
}

func (r *relayFlags) run(cmd *cobra.Command, args []string) (err error) {
	for _, address := range args {
		if err := mailer.CheckAddress(address); err != nil {
			return terminal.Usage("%w", err)
		}
	}
	cfg, err := r.load()
	if err != nil {
		return err
	}
	if err := cfg.CheckFiles(); err != nil {
		return err
	}
	log := slog.New(cfg.Log.Handler(cmd.ErrOrStderr()))
	store := r.store.Or(cfg.Store)
	if r.check {
		return r.checkAll(cmd, cfg, store, log, args)
	}
	if len(args) > 0 {
		return terminal.Usage("unexpected argument %q (only --check takes addresses)", args[0])
	}
	if r.asJSON {
		return terminal.Usage("--json goes with --check")
	}
	// From here to the end: a SIGHUP that nobody takes ends the process, and
	// cuts the messages that are under way when it stops.
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	collectGarbage(&cfg.Limits)
	km, err := relayKeys(cmd.Context(), cfg, store, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, km.end(log)) }()
	relay, err := relay.New(cfg, km.keys(), log)
	if err != nil {
		return err
	}
	forAdmin, err := admin.Listen(cmd.Context(), cfg.Admin, log)
	if err != nil {
		return terminal.Fail(terminal.ExitUnavailable, "give another address", "admin: %w", err)
	}
	defer forAdmin.Close()
	// Ends before forAdmin waits, also where the relay ends by itself.
	ctx, stop := context.WithCancelCause(cmd.Context())
	defer stop(nil)
	if err := relay.Listen(ctx); err != nil {
		return terminal.Fail(terminal.ExitUnavailable, "give another address", "%w", err)
	}
	for i, a := range relay.Addrs() {
		log.Info("listening", "listener", cfg.Listeners[i].Name, "address", a.String(), "direction", string(cfg.Listeners[i].Direction))
	}
	monitor := watch(ctx, forAdmin, r.inForce(cfg), relay, km, terminal.Version(), log)
	go r.reloads(ctx, hup, relay, monitor, cfg, log)
	notify(log, systemd.SdNotifyReady)
	context.AfterFunc(ctx, func() { notify(log, systemd.SdNotifyStopping) })
	go func() {
		if err := checkPads(ctx, cfg, km.base); err != nil {
			stop(err)
		}
	}()
	err = relay.Serve(ctx)
	if cause := context.Cause(ctx); err == nil && cause != nil && !errors.Is(cause, context.Canceled) {
		err = cause
	}
	return err
}

// inForce is a configuration with what flags say against it.
func (r *relayFlags) inForce(cfg *config.Config) *config.Config {
	c := *cfg
	store := r.store.Or(c.Store)
	c.Store.Path, c.Store.Key = store.Path, store.Key
	return &c
}

// reloads reads the configuration again on SIGHUP.
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

// again reads the configuration once more. The key manager is open, and the
// store belongs to it: another one needs a new process.
func (r *relayFlags) again(old *config.Config) (*config.Config, error) {
	cfg, err := r.load()
	if err != nil {
		return nil, err
	}
	if err := cfg.CheckFiles(); err != nil {
		return nil, err
	}
	switch {
	case cfg.KM != old.KM:
		return nil, fmt.Errorf("%w: [km] has changed: restart for that", mailer.ErrConfig)
	case cfg.Store != old.Store:
		return nil, fmt.Errorf("%w: [store] has changed: restart for that", mailer.ErrConfig)
	case cfg.Admin != old.Admin:
		return nil, fmt.Errorf("%w: [admin] has changed: restart for that", mailer.ErrConfig)
	}
	return cfg, nil
}

// relayKM is where a relay's keys come from: a pool for sending keys, before a
// store for receiving ones, before the key manager itself.
type relayKM struct {
	front kmclient.KeyManager // the first of these that there is
	pool  *keypool.Pool       // nil without
	store *keystore.Store     // nil without
	base  kmclient.KeyManager
}

func (k *relayKM) keys() relay.Keys {
	if k.store == nil {
		return relay.WithoutStore(k.front)
	}
	return relay.Keys{Source: k.front, Finder: k.store, Binder: k.store, Deliveries: k.store, Claims: k.store}
}

// relayKeys opens the key manager of a configuration, with what is before it.
func relayKeys(ctx context.Context, cfg *config.Config, store flags.Store, log *slog.Logger) (*relayKM, error) {
	base, err := flags.OpenConfigured(cfg, log)
	if err != nil {
		return nil, err
	}
	km := &relayKM{front: base, base: base}
	if km.store, err = store.Keep(ctx, base, flags.KeepOptions(cfg, log)); err != nil {
		_ = km.close()
		return nil, err
	}
	if km.store != nil {
		km.front = km.store
	}
	if cfg.KM.Pool && cfg.Does(mailer.DirectionEncrypt) {
		if km.pool, err = keypool.New(km.front, cfg.KM.PoolOptions()); err != nil {
			_ = km.close()
			return nil, err
		}
		km.front = km.pool
	}
	return km, nil
}

// close wipes the keys that were fetched ahead, and stores those that could not
// be stored before, or says how many of them are lost.
func (k *relayKM) close() (err error) {
	if k.pool != nil {
		_ = k.pool.Close(context.Background())
	}
	if k.store != nil {
		err = k.store.Close(context.Background())
	}
	return err
}

// end closes k for a relay that stops. What is lost then is in the log, and the
// relay does not end as if all were well.
func (k *relayKM) end(log *slog.Logger) error {
	err := k.close()
	if err == nil {
		return nil
	}
	log.Error("the relay stops, and its key store was not closed in good order", "error", err)
	return terminal.Fail(terminal.ExitIO, "mend the store; mail that needs a lost key has to be sent again", "%w", err)
}
