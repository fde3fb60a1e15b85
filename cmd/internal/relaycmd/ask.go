package relaycmd

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
	"strings"

	"github.com/qkdmail/qkdmail/cmd/internal/site"
	"github.com/qkdmail/qkdmail/cmd/internal/terminal"
	"github.com/qkdmail/qkdmail/kmclient/textfile"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"
)

// A question asks for the value of a flag that is not given.
type question struct {
	flag, text string
	key        string        // the configuration's key for the value; "": it can't be wrong by itself
	otherwise  func() string // returns the default; nil: there is none
	value      *string
	list       *[]string // instead of value
	needed     func() bool
	read       func(path string) error // reads the file that the value names; nil: it is not a file
}

func (f *initFlags) questions() []question {
	host, _ := os.Hostname()
	always := func() bool { return true }
	none := func() string { return "" }
	etsi := func() bool { return strings.HasPrefix(f.KM, "etsi014:") }
	return []question{
		{flag: "--hostname", text: "Name of this mail server", key: "hostname", otherwise: func() string { return host }, value: &f.hostname, needed: always},
		{flag: "--domain", text: "Mail domains of this site, separated by spaces", key: "site.domains", otherwise: func() string { return site.DomainOf(f.hostname) }, list: &f.own, needed: always},
		{flag: "--km", text: "Key manager of this site (etsi014:https://HOST:PORT, https://HOST:PORT or mock:PATH)", key: "km.url", value: &f.KM, needed: always},
		{flag: "--km-ca", text: "PEM file with the CA of the key manager's certificate (empty: the system's CAs)", key: "km.ca", otherwise: none, value: &f.KMCA, needed: func() bool { return etsi() || strings.HasPrefix(f.KM, "https:") }, read: certificates},
		{flag: "--sae", text: "Our own SAE ID at the key manager", key: "km.sae", value: &f.SAE, needed: etsi},
		{flag: "--km-cert", text: "PEM file with our certificate for the key manager", value: &f.KMCert, needed: etsi, read: certificates},
		{flag: "--km-key", text: "PEM file with its private key", value: &f.KMKey, needed: etsi, read: f.readPair},
		{flag: "--peer", text: "SAE ID of the other site", key: "peer[0].sae", value: &f.Peer, needed: etsi},
		{flag: "--peer-domain", text: "Mail domains of the other site, separated by spaces", key: "peer[0].domains", list: &f.domains, needed: always},
		{flag: "--peer-hybrid-key", text: "PEM file with the other site's X-Wing public key (empty: it comes later)", key: "peer[0].hybrid_key", otherwise: none, value: &f.peerKey, needed: func() bool { return f.hybrid != noHybrid }, read: exists},
	}
}

// exists checks that a file exists.
func exists(path string) error {
	_, err := os.Stat(path)
	return err
}

// certificates reads a file of certificates.
func certificates(path string) error {
	_, err := textfile.CAs(path)
	return err
}

// readPair reads a certificate and its private key, if both exist.
func (f *initFlags) readPair(path string) error {
	s, err := f.site()
	if err != nil {
		return err
	}
	if err := errors.Join(exists(path), exists(s.Path(f.KMCert))); err != nil {
		return err
	}
	_, err = textfile.KeyPair(s.Path(f.KMCert), path)
	return err
}

// given reports whether the flag was given.
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

// ask asks for missing values if in is a terminal, and reports whether it did. Otherwise
// the error names the missing flags.
func (f *initFlags) ask(in io.Reader, out io.Writer) (asked bool, err error) {
	f.KM = cmp.Or(f.KM, os.Getenv("QKD_KM"))
	file, ok := in.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return false, f.defaults()
	}
	if err := f.checkGiven(); err != nil {
		return false, err
	}
	lines := bufio.NewScanner(in)
	for _, q := range f.questions() {
		if q.needed() && !q.given() {
			asked = true
			if err := f.answerTo(q, lines, out); err != nil {
				return asked, err
			}
		}
	}
	return asked, nil
}

// defaults gives missing values their defaults.
func (f *initFlags) defaults() error {
	var missing []string
	for _, q := range f.questions() {
		switch {
		case !q.needed() || q.given():
		case q.otherwise == nil:
			missing = append(missing, q.flag)
		default:
			q.take(q.otherwise())
		}
	}
	if len(missing) > 0 {
		return terminal.Usage("%s must be given", strings.Join(missing, ", "))
	}
	return nil
}

// checkGiven checks the flags, before anything is asked for.
func (f *initFlags) checkGiven() error {
	s, err := f.site()
	if err != nil {
		return err
	}
	keys := []string{"rule[0].suite", "peer[0].name"}
	for _, q := range f.questions() {
		if q.key != "" && q.given() {
			keys = append(keys, q.key)
		}
	}
	if err := s.Problem(keys...); err != nil {
		return terminal.Fail(terminal.ExitConfig, "see qkdmail init --help", "%w", err)
	}
	return nil
}

// answerTo asks a question until it gets a valid answer. An empty line accepts the
// proposed one.
func (f *initFlags) answerTo(q question, lines *bufio.Scanner, out io.Writer) error {
	proposed := ""
	if q.otherwise != nil {
		proposed = q.otherwise()
	}
	for {
		fmt.Fprint(out, q.text)
		if proposed != "" {
			fmt.Fprintf(out, " [%s]", proposed)
		}
		fmt.Fprint(out, ": ")
		if !lines.Scan() {
			return terminal.Usage("no answer for %s: nothing was made", q.flag)
		}
		answer := cmp.Or(strings.TrimSpace(lines.Text()), proposed)
		if answer == "" {
			if q.otherwise != nil {
				return nil
			}
			fmt.Fprintln(out, "  This one is required and has no default.")
			continue
		}
		q.take(answer)
		err := f.check(q, out)
		if err == nil {
			return nil
		}
		fmt.Fprintf(out, "  %s\n", terminal.OneLine(err, ""))
		q.take("")
	}
}

// check checks the answer to a question. A file that does not exist may come later, but
// out is told where it will have to be.
func (f *initFlags) check(q question, out io.Writer) error {
	s, err := f.site()
	if err != nil {
		return err
	}
	if q.key != "" {
		err = s.Problem(q.key)
	}
	if err != nil || q.read == nil {
		return err
	}
	path := s.Path(*q.value)
	if exists(path) != nil {
		fmt.Fprintf(out, "  %s is not there yet.\n", path)
	}
	if err := q.read(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// command returns the command line with the given flags and the answers.
func (f *initFlags) command(cmd *cobra.Command) string {
	words := []string{cmd.CommandPath()}
	add := func(flag, value string) { words = append(words, flag, quoted(value)) }
	asked := map[string]bool{}
	for _, q := range f.questions() {
		asked[q.flag] = true
		switch {
		case q.value != nil && *q.value != "":
			add(q.flag, *q.value)
		case q.list != nil:
			for _, value := range *q.list {
				add(q.flag, value)
			}
		}
	}
	cmd.Flags().Visit(func(flag *pflag.Flag) {
		switch name := "--" + flag.Name; {
		case asked[name]:
		case flag.Value.Type() == "bool":
			words = append(words, name)
		default:
			add(name, flag.Value.String())
		}
	})
	return strings.Join(words, " ")
}

// quoted returns a word quoted for a shell.
func quoted(word string) string {
	if regexp.MustCompile(`^[A-Za-z0-9_@%+=:,./-]+$`).MatchString(word) {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
