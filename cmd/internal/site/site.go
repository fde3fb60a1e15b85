// Package site makes the files that a site needs to exchange encrypted mail: the relay's
// configuration, the lines for Postfix and a systemd unit. "qkdmail init" asks for what
// they contain.
package site

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/template"

	"github.com/qkdmail/qkdmail/kmclient/durable"
	"github.com/qkdmail/qkdmail/mailer"
	"github.com/qkdmail/qkdmail/mailer/relay/config"
)

//go:embed files
var files embed.FS

// The names of the files, in the order in which they are made. The unit is also in the
// packages.
const (
	ConfigFile = "relay.toml"
	MainFile   = "postfix-main.cf"
	MasterFile = "postfix-master.cf"
	UnitFile   = "qkdmail-relay.service"
)

// FirstPort is the first of the five ports in docs/postfix.md.
const FirstPort = 10024

// A Site describes a site.
type Site struct {
	Dir      string   // where its files go; absolute
	Hostname string   // of the mail server
	Domains  []string // of this site's users
	KM       config.KM
	Peer     config.Peer
	Suite    string // of the rules
	// HybridKey is the file of this site's X-Wing private key, which is made if it does
	// not exist; "": none.
	HybridKey string
	Port      int  // the first of five ports, which is for mail servers; the others are on loopback
	Unit      bool // whether a systemd unit is made
}

// Ports are the ports between Postfix and the relay, by what they receive.
type Ports struct{ Own, Encrypt, Decrypt, Out, In int }

// Ports returns the five ports of the site.
func (s *Site) Ports() Ports {
	return Ports{Own: s.Port, Encrypt: s.Port + 1, Decrypt: s.Port + 2, Out: s.Port + 3, In: s.Port + 4}
}

// Config returns the path of the relay's configuration.
func (s *Site) Config() string { return filepath.Join(s.Dir, ConfigFile) }

// A File is a file for a site.
type File struct {
	Name string
	Text []byte // it may be a private key: wipe it
	Mode fs.FileMode
}

// Files returns the files for a site. If the relay would not accept the configuration
// among them, the error is a mailer.ErrConfig that says why.
func (s *Site) Files() ([]File, error) {
	if err := s.checkPort(); err != nil {
		return nil, err
	}
	if len(s.Peer.Domains) == 0 {
		return nil, fmt.Errorf("%w: the other site has no mail domain", mailer.ErrConfig)
	}
	config, err := s.config()
	if err != nil {
		return nil, first(err, func(string) bool { return true })
	}
	made := []File{
		{ConfigFile, []byte(config), 0o640},
		{MainFile, []byte(s.withPorts(read("main.cf"))), 0o644},
		{MasterFile, []byte(s.withPorts(read("master.cf"))), 0o644},
	}
	if s.Unit {
		unit := strings.ReplaceAll(read(UnitFile), "/etc/qkdmail/relay.toml", s.Config())
		made = append(made, File{UnitFile, []byte(unit), 0o644})
	}
	keys, err := s.keyFiles()
	return append(made, keys...), err
}

func (s *Site) checkPort() error {
	if s.Port < 1 || s.Port > 65535-4 {
		return fmt.Errorf("%w: first port %d: must be 1 to 65531", mailer.ErrConfig, s.Port)
	}
	return nil
}

// config returns the relay's configuration.
func (s *Site) config() (string, error) {
	t, err := template.New(ConfigFile).Funcs(template.FuncMap{"toml": quote}).Parse(read("relay.toml.tmpl"))
	if err != nil {
		return "", err
	}
	var b strings.Builder
	if err := t.Execute(&b, s); err != nil {
		return "", fmt.Errorf("%w: %w", mailer.ErrConfig, err)
	}
	c, err := config.Parse(s.Config(), []byte(b.String()))
	if _, missing := os.Stat(s.Path(s.Peer.HybridKey)); err == nil && missing == nil {
		_, err = c.Policy() // reads the peer's key; if it does not exist yet, it may come later
	}
	return b.String(), err
}

// Problem returns the error in the values of these keys of the relay's configuration,
// such as "km.url", or of keys below them; nil if nothing is wrong. Other values may be
// missing.
func (s *Site) Problem(keys ...string) error {
	draft := *s
	if len(draft.Peer.Domains) == 0 {
		draft.Peer.Domains = []string{"peer.invalid"}
	}
	if draft.Peer.Name == "" {
		draft.Peer.Name = "peer"
	}
	if err := draft.checkPort(); err != nil {
		return err
	}
	_, err := draft.config()
	return first(err, func(key string) bool {
		return key == "" || slices.ContainsFunc(keys, func(k string) bool { return strings.HasPrefix(key, k) })
	})
}

// first returns the first error about a key that counts, without its line number, because
// there is no file yet. An error that names no key counts.
func first(err error, counts func(key string) bool) error {
	if _, ok := errors.AsType[*config.Error](err); !ok {
		return err
	}
	list := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		list = joined.Unwrap()
	}
	for _, err := range list {
		if found, ok := errors.AsType[*config.Error](err); ok && counts(found.Key) {
			return &config.Error{Key: found.Key, Message: found.Message}
		}
	}
	return nil
}

// DomainOf guesses the mail domain of a mail server: its name without the first label. It
// returns "" if the rest is not a domain.
func DomainOf(hostname string) string {
	if _, domain, _ := strings.Cut(hostname, "."); strings.Contains(domain, ".") {
		return domain
	}
	return ""
}

// PeerName returns a name for a peer, made from one of its domains.
func PeerName(domain string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x80 && (r == '-' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z') {
			return r
		}
		return '-'
	}, strings.TrimPrefix(domain, "*."))
}

// quote returns a TOML string.
func quote(s string) (string, error) {
	for _, r := range s {
		if r < ' ' || r == 0x7F || r == '�' {
			return "", fmt.Errorf("%q has a control character", s)
		}
	}
	return strconv.Quote(s), nil
}

// withPorts replaces the ports of docs/postfix.md with the site's.
func (s *Site) withPorts(text string) string {
	return regexp.MustCompile(`\b1002[4-8]\b`).ReplaceAllStringFunc(text, func(port string) string {
		n, _ := strconv.Atoi(port) // the expression matches numbers only
		return strconv.Itoa(n - FirstPort + s.Port)
	})
}

// read returns an embedded file.
func read(name string) string {
	text, err := files.ReadFile("files/" + name)
	if err != nil {
		panic(err) // can't happen: it is embedded
	}
	return string(text)
}

// Write makes the files in the site's folder. Without force, if one of them exists, none
// is made and the error is an fs.ErrExist.
func (s *Site) Write(files []File, force bool) error {
	if err := os.MkdirAll(filepath.Dir(s.Dir), 0o755); err != nil {
		return err
	}
	if err := os.Mkdir(s.Dir, 0o750); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if !force {
		for _, f := range files {
			if _, err := os.Lstat(filepath.Join(s.Dir, f.Name)); !errors.Is(err, fs.ErrNotExist) {
				return &fs.PathError{Op: "make", Path: filepath.Join(s.Dir, f.Name), Err: fs.ErrExist}
			}
		}
	}
	for _, f := range files {
		if err := s.write(f); err != nil {
			return err
		}
	}
	return durable.Sync(s.Dir)
}

// write makes a file, or leaves an old one unchanged.
func (s *Site) write(f File) error {
	tmp, err := os.CreateTemp(s.Dir, ".qkdmail-*.tmp")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name()) // fails once it has its name
	_, err = tmp.Write(f.Text)
	if err == nil {
		err = tmp.Chmod(f.Mode)
	}
	if err = errors.Join(err, ownGroup(s.Dir, tmp), tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), filepath.Join(s.Dir, f.Name))
}
