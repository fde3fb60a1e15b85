package relaycmd

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/qkdmail/qkdmail/cmd/internal/flags"
	"github.com/qkdmail/qkdmail/cmd/internal/site"
	"github.com/qkdmail/qkdmail/cmd/internal/terminal"
	"github.com/qkdmail/qkdmail/mailer/relay/config"
	"github.com/spf13/cobra"
	"golang.org/x/term"
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
an X-Wing key, and a systemd unit if no package has installed one. Nothing is put in
force, and nothing is overwritten without --force. A private key is never overwritten.

The other site gets the public key, site.key.pub, and sends its own. With both, mail is
safe from those who know the key managers' keys. The file of --peer-hybrid-key may come
later; without it the relay does not start.

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
	fs.StringVar(&f.hybrid, "hybrid-key", "site.key", "PEM file with our X-Wing private key, made if it is not there, with FILE.pub for the other site; or \"none\"")
	fs.StringVar(&f.peerKey, "peer-hybrid-key", "", "PEM file with the other site's X-Wing public key (default: none yet)")
	fs.IntVar(&f.port, "port", site.FirstPort, "first of five ports between Postfix and the relay: the first is for your mail servers, the others are on loopback")
	fs.BoolVar(&f.force, "force", false, "overwrite the files")
	return cmd
}

func (f *initFlags) run(cmd *cobra.Command) error {
	if f.hybrid == "" || f.peerKey == "" && cmd.Flags().Changed("peer-hybrid-key") { // a variable that is not set
		return terminal.Usage("--hybrid-key or --peer-hybrid-key is empty: name a file, or leave the flag out")
	}
	if err := f.ask(cmd.InOrStdin(), cmd.ErrOrStderr()); err != nil {
		return err
	}
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
	return f.next(cmd.OutOrStdout(), s, made)
}

// A question asks for the value of a flag that is not given.
type question struct {
	flag, text string
	otherwise  func() string // the default; nil if there is none
	value      *string
	list       *[]string // instead of value
	needed     func() bool
}

func (f *initFlags) questions() []question {
	host, _ := os.Hostname()
	always := func() bool { return true }
	none := func() string { return "" }
	etsi := func() bool { return strings.HasPrefix(f.KM, "etsi014:") }
	return []question{
		{flag: "--hostname", text: "Name of this mail server", otherwise: func() string { return host }, value: &f.hostname, needed: always},
		{flag: "--domain", text: "Mail domains of this site, separated by blanks", otherwise: func() string { return site.DomainOf(f.hostname) }, list: &f.own, needed: always},
		{flag: "--km", text: "Key manager of this site (etsi014:https://HOST:PORT, https://HOST:PORT or mock:PATH)", value: &f.KM, needed: always},
		{flag: "--sae", text: "Our own SAE ID at the key manager", value: &f.SAE, needed: etsi},
		{flag: "--km-cert", text: "PEM file with our certificate for the key manager", value: &f.KMCert, needed: etsi},
		{flag: "--km-key", text: "PEM file with its private key", value: &f.KMKey, needed: etsi},
		{flag: "--peer", text: "SAE ID of the other site", value: &f.Peer, needed: etsi},
		{flag: "--peer-domain", text: "Mail domains of the other site, separated by blanks", list: &f.domains, needed: always},
		{flag: "--peer-hybrid-key", text: "PEM file with the other site's X-Wing public key (empty: it comes later)", otherwise: none, value: &f.peerKey, needed: func() bool { return f.hybrid != noHybrid }},
	}
}

// given reports whether the flag is given.
func (q *question) given() bool {
	return q.value != nil && *q.value != "" || q.list != nil && len(*q.list) > 0
}

// take sets the value to an answer.
func (q *question) take(answer string) {
	if q.value != nil {
		*q.value = answer
		return
	}
	*q.list = strings.FieldsFunc(answer, func(r rune) bool { return r == ' ' || r == ',' })
}

// ask asks for what is missing, if in is a terminal. Otherwise the error names the flags
// that are missing.
func (f *initFlags) ask(in io.Reader, out io.Writer) error {
	f.KM = cmp.Or(f.KM, os.Getenv("QKD_KM"))
	file, ok := in.(*os.File)
	asks := ok && term.IsTerminal(int(file.Fd()))
	lines := bufio.NewScanner(in)
	var missing []string
	for _, q := range f.questions() {
		if !q.needed() || q.given() {
			continue
		}
		answer := ""
		if q.otherwise != nil {
			answer = q.otherwise()
		}
		if asks {
			var err error
			if answer, err = answerTo(q, answer, lines, out); err != nil {
				return err
			}
		}
		switch {
		case answer != "":
			q.take(answer)
		case q.otherwise == nil:
			missing = append(missing, q.flag)
		}
	}
	if len(missing) > 0 {
		return terminal.Usage("%s must be given", strings.Join(missing, ", "))
	}
	return nil
}

// answerTo asks a question until there is an answer. An empty line is the proposed
// answer.
func answerTo(q question, proposed string, lines *bufio.Scanner, out io.Writer) (string, error) {
	for {
		fmt.Fprint(out, q.text)
		if proposed != "" {
			fmt.Fprintf(out, " [%s]", proposed)
		}
		fmt.Fprint(out, ": ")
		if !lines.Scan() {
			return "", terminal.Usage("no answer for %s: nothing was made", q.flag)
		}
		if answer := cmp.Or(strings.TrimSpace(lines.Text()), proposed); answer != "" || q.otherwise != nil {
			return answer, nil
		}
	}
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
		Peer: config.Peer{Name: cmp.Or(f.peerName, site.PeerName(f.domains[0])), SAE: f.Peer, Domains: f.domains, HybridKey: f.peerKey},
	}
	if f.hybrid != noHybrid {
		s.HybridKey = f.hybrid
	}
	_, err = os.Stat("/usr/lib/systemd/system/" + site.UnitFile)
	s.Unit = err != nil || dir != "/etc/qkdmail"
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
	address, number := "someone@"+strings.TrimPrefix(f.domains[0], "*."), 0
	fmt.Fprintln(out, "\nNext:")
	for _, step := range []string{
		fmt.Sprintf(`Read %s. The certificates for the key manager must be
where it says, and the relay's account must be able to read them.`, s.Config()),
		keys,
		fmt.Sprintf(`Check it with the key manager, and see what happens to an address:
  qkdmail relay --config %s --check %s`, s.Config(), address),
		startStep(s),
		fmt.Sprintf(`Send a message through the whole path:
  qkdmail send-test --config %s %s`, s.Config(), address),
	} {
		if step != "" {
			number++
			fmt.Fprintf(out, " %d. %s\n", number, strings.ReplaceAll(step, "\n", "\n    "))
		}
	}
	_, err = fmt.Fprintln(out, "\ndocs/postfix.md explains each line for Postfix. The other site does the same.")
	return err
}

// startStep is how to start the relay, and to have Postfix use it.
func startStep(s *site.Site) string {
	step := fmt.Sprintf(`Add %s to main.cf and %s to master.cf. Its
line "smtp inet" replaces the present one. Then start the relay, and
reload Postfix:
`, site.MainFile, site.MasterFile)
	if s.Unit {
		step += fmt.Sprintf(`  # without the package: the account, the program and the unit
  useradd --system --user-group --home-dir /var/lib/qkdmail --shell /usr/sbin/nologin qkdmail
  install -m 0755 "$(command -v qkdmail)" /usr/bin/
  chgrp -R qkdmail %[1]s
  cp %[1]s/%[2]s /etc/systemd/system/ && systemctl daemon-reload
`, s.Dir, site.UnitFile)
	}
	return step + "  systemctl enable --now qkdmail-relay && postfix reload"
}

// keyStep is how the two sites exchange their X-Wing keys, "" if this one has none.
func keyStep(s *site.Site) (string, error) {
	if s.HybridKey == "" {
		return "", nil
	}
	public, err := s.PublicKey()
	if err != nil {
		return "", err
	}
	step := fmt.Sprintf(`Send %s to the other site. So that no one can
replace it on its way, compare fingerprints by telephone:
  %s
`, s.Path(s.HybridKey+site.PublicSuffix), public.Fingerprint())
	if s.Peer.HybridKey == "" {
		return step + "When its own has come, name the file as hybrid_key in " + site.ConfigFile + ".", nil
	}
	return step + "Its own must be in " + s.Path(s.Peer.HybridKey) + ".", nil
}
