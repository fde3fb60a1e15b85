package config

import (
	"bufio"
	"bytes"
	"fmt"
	"strings"

	"github.com/qkdmail/qkdmail/kmclient/textfile"
	"github.com/qkdmail/qkdmail/mailer"
	"golang.org/x/crypto/bcrypt"
)

// users are the clients that may authenticate. They do not change.
type users struct {
	hashes map[string][]byte
	decoy  []byte // the hash to compare with for unknown users
}

// Users reads AuthFile; it returns nil if that is not set. The file has at most 1 MiB and
// a line "user:hash" for each user, where hash is a bcrypt hash as "htpasswd -B" makes
// it. Empty lines and lines that begin with # are skipped. The error is an *[Error].
func (l *Listener) Users() (mailer.Users, error) {
	if l.AuthFile == "" {
		return nil, nil
	}
	u, err := loadUsers(l.AuthFile)
	if err != nil {
		return nil, err
	}
	return u, nil
}

func loadUsers(path string) (*users, error) {
	text, err := textfile.Read(path, maxSize)
	if err != nil {
		return nil, &Error{File: path, Message: strings.TrimPrefix(err.Error(), path+": ")}
	}
	u := &users{hashes: map[string][]byte{}}
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, maxSize+1)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		if problem := u.add(line); problem != "" {
			return nil, &Error{File: path, Line: n, Message: problem}
		}
	}
	if u.decoy == nil {
		return nil, &Error{File: path, Message: "no user in it, so no client could authenticate"}
	}
	return u, nil
}

// add takes a line, and returns what is wrong with it without quoting it.
func (u *users) add(line string) (problem string) {
	name, hash, _ := strings.Cut(line, ":")
	cost, err := bcrypt.Cost([]byte(hash))
	switch _, doubled := u.hashes[name]; {
	case name == "":
		return `must be "user:hash"`
	case err != nil:
		return `must be "user:hash" with a bcrypt hash, as htpasswd -B makes it`
	case cost > 15: // a second and more
		return fmt.Sprintf("a bcrypt cost of %d takes too long, at most 15", cost)
	case doubled:
		return "this user has a line already"
	}
	u.hashes[name] = []byte(hash)
	u.decoy = u.hashes[name]
	return ""
}

// Check reports whether the user exists and has this password. It takes just as long for
// a user that does not exist.
func (u *users) Check(user, password string) bool {
	hash, ok := u.hashes[user]
	if !ok {
		hash = u.decoy
	}
	err := bcrypt.CompareHashAndPassword(hash, []byte(password))
	return ok && err == nil
}
