package keystore

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/qkdmail/qkdmail/kmclient"
)

// A Location is where a store is, as users name it: an SQLite file, or
// postgres://USER@HOST/DATABASE. Printing it shows no password.
type Location string

var schemed = regexp.MustCompile(`^([A-Za-z][A-Za-z0-9+.-]+):`) // one letter alone is a drive

// settings is a database of PostgreSQL in libpq's other form, which may hold a password.
var settings = regexp.MustCompile(`(?i)^\s*(host|hostaddr|port|dbname|user|password|passfile|service|sslmode)\s*=`)

// scheme returns what is before the colon of a URL, or "" for a file name.
func (l Location) scheme() string {
	if m := schemed.FindStringSubmatch(string(l)); m != nil {
		return m[1]
	}
	return ""
}

// IsFile reports whether the store is in an SQLite file.
func (l Location) IsFile() bool { return l.scheme() == "" && !l.isSettings() }

func (l Location) isSettings() bool { return settings.MatchString(string(l)) }

// IsPostgres reports whether the store is in PostgreSQL.
func (l Location) IsPostgres() bool {
	s := l.scheme()
	return s == "postgres" || s == "postgresql"
}

// Check refuses any other kind of URL, and settings: they would silently become the name
// of an SQLite file. The error wraps kmclient.ErrConfig.
func (l Location) Check() error {
	switch {
	case l.isSettings():
		return fmt.Errorf("%w: a key store in PostgreSQL is named by a URL, postgres://USER@HOST/DATABASE, and not by settings (an SQLite file of such a name is ./NAME)",
			kmclient.ErrConfig)
	case l.IsFile(), l.IsPostgres():
		return nil
	}
	return fmt.Errorf("%w: there is no key store of the kind %q: it must be an SQLite file or postgres://USER@HOST/DATABASE (a file of such a name is ./%[2]s:…)",
		kmclient.ErrConfig, l.scheme())
}

// String returns the location for people: a URL without the parts before its hosts and
// after its path, which may hold a password.
func (l Location) String() string {
	switch {
	case l.isSettings():
		return "settings of PostgreSQL"
	case l.IsFile():
		return string(l)
	}
	scheme := l.scheme()
	rest := strings.TrimPrefix(string(l)[len(scheme)+1:], "//")
	at := strings.LastIndexByte(rest, '@')
	if query := strings.IndexByte(rest, '?'); query >= 0 && query < at { // in which of the two?
		return scheme + "://…"
	}
	rest, _, _ = strings.Cut(rest[at+1:], "?")
	rest, _, _ = strings.Cut(rest, "#")
	return scheme + "://" + rest
}
