// Package site makes the files that a site needs to exchange encrypted mail: the
// relay's configuration, Postfix's lines and a systemd unit. "qkdmail init" asks
// for what goes into them.
package site

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"text/template"

	"github.com/qkdmail/qkdmail/mailer"
	"github.com/qkdmail/qkdmail/mailer/relay/config"
)

//go:embed files
var files embed.FS

// The names of the files, in the order in which they are made. The unit is that
// of the packages.
const (
	ConfigFile = "relay.toml"
	MainFile   = "postfix-main.cf"
	MasterFile = "postfix-master.cf"
	UnitFile   = "qkdmail-relay.service"
)

// FirstPort is the port of docs/postfix.md from which the others are counted.
const FirstPort = 10024

// A Site is what has to be known of a site.
type Site struct {
	Dir      string   // where its files go; absolute
	Hostname string   // of the mail server
	Domains  []string // of this site's users
	KM       config.KM
	Peer     config.Peer
	Suite    string // as in a rule
	Port     int    // the first of five: 10024 in docs/postfix.md, which is for mail servers; the others are on loopback
	Unit     bool   // with a systemd unit
}

// Ports are those between Postfix and the relay, by what comes in there.
type Ports struct{ Own, Encrypt, Decrypt, Out, In int }

// Ports returns the five ports of the site.
func (s *Site) Ports() Ports {
	return Ports{Own: s.Port, Encrypt: s.Port + 1, Decrypt: s.Port + 2, Out: s.Port + 3, In: s.Port + 4}
}

// Config returns the path of the relay's configuration.
func (s *Site) Config() string { return filepath.Join(s.Dir, ConfigFile) }

// A File is a file that was made, or is to be made.
type File struct {
	Name string
	Text string
	Mode fs.FileMode
}

// Files returns the files of a site. The relay's configuration is one that the
// relay takes; the error, a mailer.ErrConfig, says what is wrong otherwise.
func (s *Site) Files() ([]File, error) {
	if s.Port < 1 || s.Port > 65535-4 {
		return nil, fmt.Errorf("%w: first port %d: must be 1 to 65531", mailer.ErrConfig, s.Port)
	}
	if len(s.Peer.Domains) == 0 {
		return nil, fmt.Errorf("%w: the other site has no mail domain", mailer.ErrConfig)
	}
	config, err := s.config()
	if err != nil {
		return nil, err
	}
	made := []File{
		{ConfigFile, config, 0o640},
		{MainFile, s.withPorts(read("main.cf")), 0o644},
		{MasterFile, s.withPorts(read("master.cf")), 0o644},
	}
	if s.Unit {
		unit := strings.ReplaceAll(read(UnitFile), "/etc/qkdmail/relay.toml", s.Config())
		made = append(made, File{UnitFile, unit, 0o644})
	}
	return made, nil
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
	if err == nil {
		_, err = c.Policy()
	}
	// One thing at a time, and not by the line of a file that is not there yet.
	if found, ok := errors.AsType[*config.Error](err); ok {
		err = &config.Error{Key: found.Key, Message: found.Message}
	}
	return b.String(), err
}

// DomainOf returns the mail domain that a mail server's name lets expect: that
// without its first label, "" where nothing would be left of a domain.
func DomainOf(hostname string) string {
	if _, domain, _ := strings.Cut(hostname, "."); strings.Contains(domain, ".") {
		return domain
	}
	return ""
}

// PeerName makes the name of a peer of one of its domains.
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

// withPorts puts the site's ports in the places of those of docs/postfix.md.
func (s *Site) withPorts(text string) string {
	return regexp.MustCompile(`\b1002[4-8]\b`).ReplaceAllStringFunc(text, func(port string) string {
		n, _ := strconv.Atoi(port) // it is one
		return strconv.Itoa(n - FirstPort + s.Port)
	})
}

// read returns a file of this package.
func read(name string) string {
	text, err := files.ReadFile("files/" + name)
	if err != nil {
		panic(err) // it was there when the program was built
	}
	return string(text)
}

// Write makes the files in the site's folder. If one of them is there already
// none is made, unless force: the error is an fs.ErrExist then.
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
	return nil
}

// write makes one file, or leaves what there was.
func (s *Site) write(f File) error {
	tmp, err := os.CreateTemp(s.Dir, ".qkdmail-*.tmp")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name()) // fails once it has its name
	_, err = tmp.WriteString(f.Text)
	if err == nil {
		err = tmp.Chmod(f.Mode)
	}
	if err = errors.Join(err, ownGroup(s.Dir, tmp), tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), filepath.Join(s.Dir, f.Name))
}
