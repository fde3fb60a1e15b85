package kmcmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"

	"github.com/qkdmail/qkdmail/cmd/internal/admin"
	"github.com/qkdmail/qkdmail/cmd/internal/flags"
	"github.com/qkdmail/qkdmail/cmd/internal/kmsim"
	"github.com/qkdmail/qkdmail/cmd/internal/terminal"
	"github.com/qkdmail/qkdmail/mailer/relay/config"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// A server holds the flags of "km serve".
type server struct {
	kmsim.Options
	api      string
	listen   string
	kmes     []string
	saes     []string
	certs    string
	identity string
	profile  string
	admin    string
	quiet    bool
}

func newServe() *cobra.Command {
	s := &server{}
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run a simulated key manager",
		Long: `Run a simulated key manager, to develop and test against, until it is stopped.

--api qmail serves the QMail REST API over plain HTTP: one key manager that both
sides share. It does not authenticate clients: keep it on a loopback address.

--api etsi014 serves ETSI GS QKD 014 V1.1.1 over mutual TLS: linked KMEs that
hand out the same keys to both sides and delete them on delivery. "qkdmail km
certs" makes the certificates.

Keys are made on demand and never run out; --rate and --capacity change that. They
are kept in memory and are lost when the process ends.

--fail makes some requests fail. It is a list of rules ACTION:PROBABILITY, separated
by commas. ACTION is status=CODE, cut (the connection is closed and nothing is
done) or lost (the request is carried out, but its answer is lost).

--profile makes the KMEs behave as some in the field do (docs/kmes.md):

` + profiles(),
		Example: `  qkdmail km serve --api qmail --listen 127.0.0.1:8080

  qkdmail km certs certs/
  qkdmail km serve --api etsi014 --certs certs/ \
      --kme KME_A=127.0.0.1:8443 --kme KME_B=127.0.0.1:8444 \
      --sae SAE_A=KME_A --sae SAE_B=KME_B

  qkdmail km serve --api qmail --rate 10 --capacity 100 --fail status=503:0.1,lost:0.01`,
		Args: flags.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := s.takeProfile(cmd.Flags()); err != nil {
				return err
			}
			return s.run(cmd)
		},
	}
	s.flags(cmd)
	flags.HideGlobals(cmd)
	return cmd
}

// takeProfile applies a profile, except where the command line says otherwise.
func (s *server) takeProfile(f *pflag.FlagSet) error {
	if s.profile == "" {
		return nil
	}
	p, err := kmsim.ProfileNamed(s.profile)
	switch {
	case err != nil:
		return terminal.Usage("--profile: %w", err)
	case s.api != "etsi014":
		return terminal.Usage("--profile is for --api etsi014")
	}
	s.Quirks = p.Options.Quirks
	for name, value := range map[string]int{
		"key-size": p.Options.KeySize, "min-key-size": p.Options.MinKeySize, "max-key-size": p.Options.MaxKeySize,
		"max-keys-per-request": p.Options.MaxKeysPerRequest,
	} {
		if flag := f.Lookup(name); value != 0 && !flag.Changed {
			if err := flag.Value.Set(strconv.Itoa(value)); err != nil {
				return err
			}
		}
	}
	if p.Identity != "" && !f.Changed("identity") {
		s.identity = p.Identity
	}
	return nil
}

// profiles returns a line for each profile.
func profiles() string {
	var b strings.Builder
	for _, p := range kmsim.Profiles() {
		fmt.Fprintf(&b, "  %-13s %s\n", p.Name, p.About)
	}
	return b.String()
}

// profileNames returns the values of --profile, with what they mean.
func profileNames() []cobra.Completion {
	var names []cobra.Completion
	for _, p := range kmsim.Profiles() {
		names = append(names, cobra.CompletionWithDesc(p.Name, p.About))
	}
	return names
}

func (s *server) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&s.api, "api", "etsi014", "qmail or etsi014")
	flags.OfferValues(cmd, "api", "etsi014", "qmail")
	f.StringVar(&s.listen, "listen", "127.0.0.1:8080", "address of --api qmail")
	f.StringArrayVar(&s.kmes, "kme", []string{"KME_A=127.0.0.1:8443", "KME_B=127.0.0.1:8444"}, "KME and its address, ID=HOST:PORT; once for each KME")
	f.StringArrayVar(&s.saes, "sae", []string{"SAE_A=KME_A", "SAE_B=KME_B"}, "SAE and its KME, ID=KME; once for each SAE")
	f.StringVar(&s.certs, "certs", "certs", "folder with the certificates of the KMEs")
	flags.OfferFolders(cmd, "certs")
	f.StringVar(&s.identity, "identity", "cn", "where a client certificate has the SAE ID: cn, uri, dns or serial")
	flags.OfferValues(cmd, "identity", "cn", "uri", "dns", "serial")
	f.IntVar(&s.KeySize, "key-size", 256, "size in bits of a key when a request gives none")
	f.IntVar(&s.MinKeySize, "min-key-size", 64, "smallest size of a key in bits")
	f.IntVar(&s.MaxKeySize, "max-key-size", 524544, "largest size of a key in bits")
	f.IntVar(&s.MaxKeysPerRequest, "max-keys-per-request", 128, "largest number of keys in a request")
	f.IntVar(&s.MaxSAEIDs, "max-sae-ids", 0, "additional slave SAEs of a multicast key; 0 for no multicast")
	f.Float64Var(&s.Rate, "rate", 0, "new keys per second; 0 for keys on demand")
	f.IntVar(&s.Capacity, "capacity", 0, "largest number of keys in stock; 0 for keys on demand")
	f.IntVar(&s.ExhaustedStatus, "exhausted-status", 503, "HTTP status when the stock is too small: 503 or 400")
	flags.OfferValues(cmd, "exhausted-status", "503", "400")
	f.DurationVar(&s.Latency, "latency", 0, "delay of every answer")
	f.StringVar(&s.Fail, "fail", "", "make some requests fail, for example status=503:0.1,lost:0.01")
	f.StringVar(&s.profile, "profile", "", "name of a profile: how some KME in the field behaves")
	flags.OfferValues(cmd, "profile", profileNames()...)
	f.BoolVar(&s.quiet, "quiet", false, "no access log")
	flags.Admin(f, &s.admin, "/healthz, /readyz and /metrics")
}

// A simulator is one listening key manager.
type simulator struct {
	name    string
	listen  string
	handler http.Handler
	opts    kmsim.ServeOptions
}

// announce prints where the key manager listens, with a warning if other machines can
// reach it.
func (s *simulator) announce(w io.Writer, at net.Addr) {
	scheme, callers := "http", "anyone who connects"
	if s.opts.TLS != nil {
		scheme, callers = "https", "anyone with a certificate of its CA"
	}
	fmt.Fprintf(w, "simulated key manager %s at %s://%s (not QKD: for development and tests)\n", s.name, scheme, at)
	if a, ok := at.(*net.TCPAddr); !ok || !a.IP.IsLoopback() {
		fmt.Fprintf(w, "qkdmail: warning: %s can be reached from other machines, and gives keys to %s\n", at, callers)
	}
}

func (s *server) run(cmd *cobra.Command) error {
	level := slog.LevelInfo
	if s.quiet {
		level = slog.LevelWarn
	}
	s.Logger = slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: level}))
	forAdmin, err := admin.Listen(cmd.Context(), config.Admin{Address: s.admin}, s.Logger)
	if err != nil {
		return terminal.Fail(terminal.ExitUnavailable, "give another address", "admin: %w", err)
	}
	defer forAdmin.Close()
	metrics := admin.NewSimulator(terminal.Version())
	s.Observe = metrics.Observe
	var (
		sites  []simulator
		stocks func() []kmsim.Stock
	)
	switch s.api {
	case "qmail":
		sites, stocks, err = s.qmail()
	case "etsi014":
		sites, stocks, err = s.etsi()
	default:
		err = terminal.Usage("--api %q: must be qmail or etsi014", s.api)
	}
	if err != nil {
		return err
	}
	metrics.Watch(stocks)
	forAdmin.Serve(metrics.Handler(), false)
	return serve(cmd.Context(), cmd.ErrOrStderr(), sites)
}

func (s *server) qmail() ([]simulator, func() []kmsim.Stock, error) {
	km, err := kmsim.NewQMail(s.Options)
	if err != nil {
		return nil, nil, err
	}
	return []simulator{{"QMail REST API", s.listen, km, kmsim.ServeOptions{Logger: s.Logger}}}, km.Stocks, nil
}

func (s *server) etsi() ([]simulator, func() []kmsim.Stock, error) {
	topology := kmsim.Topology{Identity: s.identity}
	var sites []simulator
	for _, arg := range s.kmes {
		id, address, ok := strings.Cut(arg, "=")
		if !ok {
			return nil, nil, terminal.Usage("--kme %q: must be ID=HOST:PORT", arg)
		}
		topology.KMEs = append(topology.KMEs, id)
		sites = append(sites, simulator{name: id, listen: address})
	}
	for _, arg := range s.saes {
		id, kme, ok := strings.Cut(arg, "=")
		if !ok {
			return nil, nil, terminal.Usage("--sae %q: must be ID=KME", arg)
		}
		topology.SAEs = append(topology.SAEs, kmsim.SAE{ID: id, KME: kme})
	}
	km, err := kmsim.NewETSI(topology, s.Options)
	if err != nil {
		return nil, nil, err
	}
	for i := range sites {
		if err := s.secure(&sites[i], km); err != nil {
			return nil, nil, err
		}
	}
	return sites, km.Stocks, nil
}

// secure sets the handler and the certificate of a KME.
func (s *server) secure(at *simulator, km *kmsim.ETSI) (err error) {
	if at.handler, err = km.Handler(at.name); err != nil {
		return err
	}
	at.opts.Logger = s.Logger
	if at.opts.TLS, err = kmsim.Certs(s.certs).ServerTLS(at.name); err != nil {
		return terminal.Fail(terminal.ExitConfig, "make them with: qkdmail km certs "+s.certs, "certificate of %s: %w", at.name, err)
	}
	return nil
}

// serve serves all sites until ctx ends or one of them fails. It announces them once
// all of them listen.
func serve(ctx context.Context, stderr io.Writer, sites []simulator) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	listeners := make([]net.Listener, len(sites))
	for i, at := range sites {
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", at.listen)
		if err != nil {
			for _, l := range listeners[:i] {
				_ = l.Close()
			}
			return terminal.Fail(terminal.ExitUnavailable, "give another address", "%w", err)
		}
		listeners[i] = l
	}
	done := make(chan error, len(sites))
	for i, at := range sites {
		at.announce(stderr, listeners[i].Addr())
		go func() {
			err := kmsim.Serve(ctx, listeners[i], at.handler, at.opts)
			stop() // a link needs both ends
			done <- err
		}()
	}
	var all []error
	for range sites {
		all = append(all, <-done)
	}
	return errors.Join(all...)
}
