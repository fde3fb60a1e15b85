package relaycmd

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strings"

	"github.com/qkdmail/qkdmail/cmd/internal/flags"
	"github.com/qkdmail/qkdmail/cmd/internal/site"
	"github.com/qkdmail/qkdmail/cmd/internal/terminal"
	"github.com/qkdmail/qkdmail/mailer/relay/config"
	"github.com/spf13/cobra"
)

// noHybrid is the --hybrid-key of a site without an X-Wing key.
const noHybrid = "none"

// initFlags are the flags of "init".
type initFlags struct {
	*flags.Globals
	dir      string
	hostname string
	own      []string
	peerName string
	domains  []string
	suite    string
	hybrid   string // our X-Wing key, or noHybrid
	peerKey  string // that of the other site; ""
	port     int
	force    bool
}

func newInit(g *flags.Globals) *cobra.Command {
	f := &initFlags{Globals: g}
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Make the files for a site",
		Long: `Make the files that this site needs to exchange encrypted mail with another: the
relay's configuration, with comments, the lines for Postfix's main.cf and master.cf,
an X-Wing key, and a systemd unit if no package has installed one. Nothing is put into
effect, and nothing is overwritten without --force. A private key is never
overwritten.

Send the public key, site.key.pub, to the other site, which sends its own. With both,
mail is safe even from someone who knows the key managers' keys. The file of
--peer-hybrid-key may come later, but the relay does not start without it.

On a terminal, init asks for what the flags don't say.`,
		Example: `  qkdmail init
  qkdmail init --km etsi014:https://kme.a.example:8443 --sae SAE_A --peer SAE_B \
      --km-ca km-ca.crt --km-cert sae_a.crt --km-key sae_a.key \
      --hostname mail.a.example --domain a.example --peer-domain b.example \
      --peer-domain '*.b.example' --peer-hybrid-key site-b.pub`,
		Args: flags.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	fs := cmd.Flags()
	fs.StringVar(&f.dir, "dir", "/etc/qkdmail", "folder for the files; paths of --km-ca, --hybrid-key and the like are relative to it")
	fs.StringVar(&f.hostname, "hostname", "", "name of this mail server (default: the host's)")
	fs.StringArrayVar(&f.own, "domain", nil, "mail domain of this site, or *.DOMAIN for all domains below it; may be repeated (default: the hostname without its first label)")
	fs.StringVar(&f.peerName, "peer-name", "", "name of the other site in the log (default: its first domain)")
	fs.StringArrayVar(&f.domains, "peer-domain", nil, "mail domain of the other site, or *.DOMAIN for all domains below it; may be repeated")
	fs.StringVar(&f.suite, "suite", "auto", "auto, otp or aes-256-gcm; with --peer-hybrid-key they are hybrid")
	fs.StringVar(&f.hybrid, "hybrid-key", "site.key", "PEM file with our X-Wing private key, made with FILE.pub for the other site if it does not exist; or \"none\"")
	fs.StringVar(&f.peerKey, "peer-hybrid-key", "", "PEM file with the other site's X-Wing public key (default: none yet)")
	fs.IntVar(&f.port, "port", site.FirstPort, "first of five ports between Postfix and the relay: the first is for your mail servers, the others are on loopback")
	fs.BoolVar(&f.force, "force", false, "overwrite the files")
	flags.OfferFolders(cmd, "dir")
	flags.OfferValues(cmd, "suite", "auto", "otp", "aes-256-gcm")
	flags.OfferFiles(cmd, "hybrid-key", noHybrid)
	flags.OfferFiles(cmd, "peer-hybrid-key")
	return cmd
}

func (f *initFlags) run(cmd *cobra.Command) error {
	if f.hybrid == "" || f.peerKey == "" && cmd.Flags().Changed("peer-hybrid-key") { // probably an unset variable
		return terminal.Usage("--hybrid-key or --peer-hybrid-key is empty: name a file, or leave the flag out")
	}
	asked, err := f.ask(cmd.InOrStdin(), cmd.ErrOrStderr())
	if err == nil {
		err = f.make(cmd.OutOrStdout())
	}
	if err != nil && asked {
		fmt.Fprintf(cmd.ErrOrStderr(), "\nWith the answers so far:\n  %s\n\n", f.command(cmd))
	}
	return err
}

// make makes the files.
func (f *initFlags) make(out io.Writer) error {
	s, err := f.site()
	if err != nil {
		return err
	}
	made, err := s.Files()
	defer func() {
		for _, m := range made {
			clear(m.Text)
		}
	}()
	if err != nil {
		return terminal.Fail(terminal.ExitConfig, "see qkdmail init --help", "%w", err)
	}
	if err := s.Write(made, f.force); errors.Is(err, fs.ErrExist) {
		return terminal.Fail(terminal.ExitCantCreate, "use --force to overwrite it, or --dir for another folder; nothing was made", "%w", err)
	} else if err != nil {
		return terminal.Fail(terminal.ExitCantCreate, "run it as root, or use --dir for another folder", "%w", err)
	}
	return f.next(out, s, made)
}

// site returns the site that the flags and answers describe.
func (f *initFlags) site() (*site.Site, error) {
	dir, err := filepath.Abs(f.dir)
	if err != nil {
		return nil, terminal.Usage("--dir: %w", err)
	}
	s := &site.Site{
		Dir: dir, Hostname: f.hostname, Domains: f.own, Suite: f.suite, Port: f.port,
		KM:   config.KM{URL: f.KM, SAE: f.SAE, CA: f.KMCA, Cert: f.KMCert, Key: f.KMKey, KMEID: f.KMEID},
		Peer: config.Peer{Name: f.peerName, SAE: f.Peer, Domains: f.domains, HybridKey: f.peerKey},
	}
	if f.peerName == "" && len(f.domains) > 0 {
		s.Peer.Name = site.PeerName(f.domains[0])
	}
	if f.hybrid != noHybrid {
		s.HybridKey = f.hybrid
	}
	s.Unit = !installed().unit || dir != "/etc/qkdmail"
	return s, nil
}

// next prints what was made and what to do next.
func (f *initFlags) next(out io.Writer, s *site.Site, made []site.File) error {
	for _, m := range made {
		fmt.Fprintf(out, "made %s\n", filepath.Join(s.Dir, m.Name))
	}
	keys, err := keyStep(s)
	if err != nil {
		return err
	}
	address, number, there := "someone@"+strings.TrimPrefix(f.domains[0], "*."), 0, installed()
	fmt.Fprintln(out, "\nNext:")
	for _, step := range []string{
		readStep(s, there),
		keys,
		fmt.Sprintf(`Check it with the key manager, and see what happens to mail for an address:
  %sqkdmail relay --config %s --check %s`, asRelay(s, there), s.Config(), address),
		startStep(s, there),
		fmt.Sprintf(`Send a message through the whole path:
  qkdmail send-test --config %s %s`, s.Config(), address),
	} {
		if step != "" {
			number++
			fmt.Fprintf(out, " %d. %s\n", number, strings.ReplaceAll(step, "\n", "\n    "))
		}
	}
	_, err = fmt.Fprintln(out, "\ndocs/postfix.md explains each line for Postfix. The other site must do the same.")
	return err
}

// asRelay returns how to run a command as the relay does, "" if its account can't read
// the files yet.
func asRelay(s *site.Site, there system) string {
	if !there.account || s.Unit {
		return ""
	}
	return "runuser -u qkdmail -- "
}

// readStep returns what to look at first.
func readStep(s *site.Site, there system) string {
	step := fmt.Sprintf("Read %s.", s.Config())
	if s.KM.CA+s.KM.Cert+s.KM.Key == "" {
		return step
	}
	step += ` The certificates for the key manager must be
where it says`
	if s.KM.Key == "" {
		return step + "."
	}
	key, group := quoted(s.Path(s.KM.Key)), ""
	if there.account {
		group = "chgrp qkdmail " + key + " && "
	}
	return step + ", and the relay's account must be able to read the key:\n  " + group + "chmod 0640 " + key
}

// A system says which of the things that a relay needs exist already.
type system struct{ account, program, unit bool }

// installed examines this system.
func installed() system {
	_, noAccount := user.Lookup("qkdmail")
	_, noProgram := os.Stat("/usr/bin/qkdmail")
	_, noUnit := os.Stat("/usr/lib/systemd/system/" + site.UnitFile)
	return system{noAccount == nil, noProgram == nil, noUnit == nil}
}

// startStep says how to start the relay and have Postfix use it.
func startStep(s *site.Site, there system) string {
	step := fmt.Sprintf(`Add %s to main.cf, and %s to master.cf,
where its line "smtp inet" replaces the existing one. Then start the relay
and reload Postfix:
`, site.MainFile, site.MasterFile)
	if !there.account {
		step += "  useradd --system --user-group --home-dir /var/lib/qkdmail --shell /usr/sbin/nologin qkdmail\n"
	}
	if !there.program {
		step += "  install -m 0755 \"$(command -v qkdmail)\" /usr/bin/\n"
	}
	if s.Unit {
		step += fmt.Sprintf(`  chgrp -R qkdmail %[1]s
  cp %[1]s/%[2]s /etc/systemd/system/ && systemctl daemon-reload
`, s.Dir, site.UnitFile)
	}
	return step + "  systemctl enable --now qkdmail-relay && postfix reload"
}

// keyStep says how the two sites exchange their X-Wing keys, "" if this site has
// none.
func keyStep(s *site.Site) (string, error) {
	if s.HybridKey == "" {
		return "", nil
	}
	public, err := s.PublicKey()
	if err != nil {
		return "", err
	}
	step := fmt.Sprintf(`Send %s to the other site. Compare
fingerprints by telephone, so that nobody can replace it on its way:
  %s
`, s.Path(s.HybridKey+site.PublicSuffix), public.Fingerprint())
	if s.Peer.HybridKey == "" {
		return step + "When its own key has arrived, name the file as hybrid_key in " + site.ConfigFile + ".", nil
	}
	return step + "Its own key must be in " + s.Path(s.Peer.HybridKey) + ".", nil
}
