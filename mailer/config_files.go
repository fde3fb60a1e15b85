package mailer

import (
	"bufio"
	"bytes"
	"fmt"
	"strings"

	"github.com/qkdmail/qkdmail/kmclient/textfile"
	"golang.org/x/crypto/bcrypt"
)

// CheckFiles reports, joined, which of the files that the configuration names
// can't be used: certificates, keys, CAs, users, passwords. Paths within km.url
// and of the store itself are not looked at.
func (c *Config) CheckFiles() error {
	f := &findings{c: c}
	file := func(key, path string, read func(path string) error) {
		if path == "" {
			return
		}
		if err := read(path); err != nil {
			f.add(key, "%v", err)
		}
	}
	pair := func(key, cert, private string) {
		if cert == "" || private == "" {
			return
		}
		if _, err := textfile.KeyPair(cert, private); err != nil {
			f.add(key, "%v", err)
		}
	}
	for i := range c.Listeners {
		l, at := &c.Listeners[i], entryKey("listener", i)
		pair(at+".tls_cert", l.TLSCert, l.TLSKey)
		file(at+".auth_file", l.AuthFile, func(path string) error { _, err := LoadUsers(path); return err })
	}
	for i := range c.NextHops {
		n, at := &c.NextHops[i], entryKey("next_hop", i)
		file(at+".tls_ca", n.TLSCA, checkCAs)
		file(at+".auth_password_file", n.AuthPasswordFile, func(path string) error { _, err := LoadPassword(path); return err })
	}
	pair("km.cert", c.KM.Cert, c.KM.Key)
	file("km.ca", c.KM.CA, checkCAs)
	return f.err()
}

// checkCAs reports whether a PEM file has CAs and nothing that is damaged.
func checkCAs(path string) error {
	_, err := textfile.CAs(path)
	return err
}

// readBounded reads a text file of at most 1 MiB.
func readBounded(path string) ([]byte, error) { return textfile.Read(path, maxConfigSize) }

// LoadPassword reads a password from the first line of a file, which is its
// only one.
func LoadPassword(path string) (string, error) {
	text, err := readBounded(path)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrConfig, err)
	}
	password := strings.TrimRight(string(text), "\r\n")
	if password == "" || strings.ContainsAny(password, "\r\n\x00") {
		return "", fmt.Errorf("%w: %s: must be one line with a password", ErrConfig, path)
	}
	return password, nil
}

// A UserFile has the users who may authenticate. It does not change.
type UserFile struct {
	hashes map[string][]byte
	decoy  []byte // compared with for unknown users, for as long
}

// LoadUsers reads a file of at most 1 MiB with a line "user:hash" for each
// user, where the hash is of bcrypt, as "htpasswd -B" makes it. Empty lines and
// those that begin with # say nothing. The error is a *[ConfigError].
func LoadUsers(path string) (*UserFile, error) {
	text, err := readBounded(path)
	if err != nil {
		return nil, &ConfigError{File: path, Message: strings.TrimPrefix(err.Error(), path+": ")}
	}
	u := &UserFile{hashes: map[string][]byte{}}
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, maxConfigSize+1)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		if problem := u.add(line); problem != "" {
			return nil, &ConfigError{File: path, Line: n, Message: problem}
		}
	}
	if u.decoy == nil {
		return nil, &ConfigError{File: path, Message: "no user in it: nobody could authenticate"}
	}
	return u, nil
}

// add takes a line and says what is wrong with it, but not what it is.
func (u *UserFile) add(line string) (problem string) {
	name, hash, _ := strings.Cut(line, ":")
	cost, err := bcrypt.Cost([]byte(hash))
	switch _, doubled := u.hashes[name]; {
	case name == "":
		return `must be "user:hash"`
	case err != nil:
		return `must be "user:hash" with a hash of bcrypt, as htpasswd -B makes it`
	case cost > 15: // a second and more
		return fmt.Sprintf("a bcrypt cost of %d takes too long, at most 15", cost)
	case doubled:
		return "this user has a line already"
	}
	u.hashes[name] = []byte(hash)
	u.decoy = u.hashes[name]
	return ""
}

// Check reports whether the user exists and has this password. It takes as long
// for users who don't exist.
func (u *UserFile) Check(user, password string) bool {
	hash, ok := u.hashes[user]
	if !ok {
		hash = u.decoy
	}
	err := bcrypt.CompareHashAndPassword(hash, []byte(password))
	return ok && err == nil
}
