package relaycmd

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	systemd "github.com/coreos/go-systemd/v22/daemon"
	"github.com/qkdmail/qkdmail/cmd/internal/admin"
	"github.com/qkdmail/qkdmail/cmd/internal/flags"
	"github.com/qkdmail/qkdmail/cmd/internal/terminal"
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
	ready   bool
	from    string
	headers []string
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
		Long: `Encrypt outgoing and decrypt arriving mail between two mail systems, over SMTP and
LMTP, as a configuration file says (docs/relay.toml has every key). SIGHUP reloads the
file, and so does a change to an X-Wing key file. If there is an error, or a change
that needs a restart ([km], [store], [admin], the name, address, protocol or direction
of a listener), the old configuration and the old keys stay in force and the log says
why. SIGTERM stops the relay once the messages under way are done.

The relay has no queue: it answers 250 only after the next hop has, and 451 if there
is no key, so that mail waits at its sender.

Without a file, --mode, --listen and --next-hop are enough for one direction and one
peer; "lmtp:" before an address means LMTP.

--admin serves a status page, health and metrics for Prometheus.

--check validates the file, the certificates and the X-Wing keys, says how old the
keys are and which mail is hybrid, asks the key manager, opens the key store, greets
the next hops, prints what happens to mail for each ADDRESS, and exits. --from and
--header give that mail a sender and header fields, which triggers look at. It goes on
after a failure, and says what to do about each.

--ready asks the relay that runs with this file, at its [admin] address, and exits
with 0 if mail can pass. It is meant as a container's health check.`,
		Example: `  qkdmail relay --config /etc/qkdmail/relay.toml
  qkdmail relay --config /etc/qkdmail/relay.toml --check bob@b.example
  qkdmail relay --config /etc/qkdmail/relay.toml --check bob@b.example \
      --from ceo@a.example --header 'Sensitivity: company-confidential'
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
	flags.OfferConfig(cmd)
	f.BoolVar(&r.check, "check", false, "check the configuration and exit")
	f.BoolVar(&r.ready, "ready", false, "ask the running relay whether it is ready, and exit")
	f.StringVar(&r.from, "from", "", "envelope sender of the mail that --check explains")
	f.StringArrayVar(&r.headers, "header", nil, "header field of the mail that --check explains, as 'NAME: VALUE'; may be repeated")
	f.BoolVar(&r.asJSON, "json", false, "print each finding of --check as a line of JSON")
	f.StringVar(&r.mode, "mode", "", "encrypt or decrypt; instead of a file")
	flags.OfferValues(cmd, "mode", "encrypt", "decrypt")
	f.StringVar(&r.listen, "listen", "", "address to listen on; instead of a file")
	f.StringVar(&r.nextHop, "next-hop", "", "address of the next hop; instead of a file")
	flags.Admin(f, &r.admin, "a status page, /healthz, /readyz and /metrics")
	r.store.Register(cmd, f, flags.StoreUsage)
	return cmd
}

// load returns the configuration, from the file or from the flags.
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
		return nil, terminal.Usage("give --config FILE, or --mode, --listen and --next-hop")
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

func (r *relayFlags) run(cmd *cobra.Command, args []string) error {
	for _, address := range args {
		if err := mailer.CheckAddress(address); err != nil {
			return terminal.Usage("%w", err)
		}
	}
	if err := r.checkMessage(); err != nil {
		return err
	}
	cfg, err := terminal.Await(cmd.Context(), func() (*config.Config, error) { // the file may be a pipe that stays silent
		cfg, err := r.load()
		if err == nil && !r.ready {
			err = cfg.CheckFiles()
		}
		return cfg, err
	})
	if err != nil {
		return err
	}
	if r.ready {
		return askReady(cmd.Context(), &cfg.Admin)
	}
	log := slog.New(cfg.Log.Handler(cmd.ErrOrStderr()))
	switch {
	case r.check:
		return r.checkAll(cmd, cfg, log, args)
	case len(args) > 0:
		return terminal.Usage("unexpected argument %q (only --check takes addresses)", args[0])
	case r.from != "" || r.headers != nil:
		return terminal.Usage("--from and --header go with --check")
	case r.asJSON:
		return terminal.Usage("--json goes with --check")
	}
	return r.serve(cmd.Context(), cfg, log)
}

// serve runs the relay until ctx ends.
func (r *relayFlags) serve(ctx context.Context, cfg *config.Config, log *slog.Logger) (err error) {
	// Handle SIGHUP until the very end: unhandled, it would end the process, and with it
	// messages that are under way while the relay stops.
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	collectGarbage(&cfg.Limits)
	keys, err := openKeys(ctx, cfg, r.store.Or(cfg.Store), log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, keys.end(log)) }()
	seen := lookAt(cfg.KeyFiles())
	relay, err := relay.New(cfg, keys.forRelay(), log)
	if err != nil {
		return err
	}
	forAdmin, err := admin.Listen(ctx, cfg.Admin, log)
	if err != nil {
		return terminal.Fail(terminal.ExitUnavailable, "give another address", "admin: %w", err)
	}
	defer forAdmin.Close()
	// ctx ends before forAdmin.Close waits, even if the relay ends by itself.
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	if err := relay.Listen(ctx); err != nil {
		return terminal.Fail(terminal.ExitUnavailable, "give another address", "%w", err)
	}
	for i, a := range relay.Addrs() {
		log.Info("listening", "listener", cfg.Listeners[i].Name, "address", a.String(), "direction", string(cfg.Listeners[i].Direction))
	}
	monitor := watch(ctx, forAdmin, r.inForce(cfg), relay, keys, log)
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	go (&reloader{flags: r, relay: relay, monitor: monitor, log: log, first: cfg, seen: seen}).run(ctx, hup, look.C)
	notify(log, systemd.SdNotifyReady)
	context.AfterFunc(ctx, func() { notify(log, systemd.SdNotifyStopping) })
	go func() {
		if err := checkPads(ctx, cfg, keys.base); err != nil {
			stop(err)
		}
	}()
	err = relay.Serve(ctx)
	if cause := context.Cause(ctx); err == nil && cause != nil && !errors.Is(cause, context.Canceled) {
		err = cause
	}
	return err
}

// otherMemory is how many bytes of memory the relay takes besides those for messages
// under way: for keys, the store, connections and garbage.
const otherMemory = 64 << 20

// collectGarbage makes garbage collection less frequent: a busy relay with small messages
// takes some 30 MiB more memory and a tenth less processor time. The limit bounds the
// garbage from large messages. GOGC and GOMEMLIMIT in the environment take precedence.
func collectGarbage(limits *config.Limits) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(400)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(limits.MemoryBytes() + otherMemory)
	}
}
