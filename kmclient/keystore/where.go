package keystore

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/qkdmail/qkdmail/kmclient"
)

var schemed = regexp.MustCompile(`^([A-Za-z][A-Za-z0-9+.-]+):`) // one letter is a drive

// Scheme returns what stands before the colon where a store is named as a URL is,
// such as "postgres"; "" for the name of a file.
func Scheme(where string) string {
	if m := schemed.FindStringSubmatch(where); m != nil {
		return m[1]
	}
	return ""
}

// CheckScheme refuses a store that is named as a URL of a kind that there is not:
// an SQLite file of that name would be made in silence. The error is a
// kmclient.ErrConfig.
func CheckScheme(where string) error {
	switch scheme := Scheme(where); scheme {
	case "", "postgres", "postgresql":
		return nil
	default:
		return fmt.Errorf("%w: there is no key store of the kind %q: it is an SQLite file or postgres://USER@HOST/DATABASE (a file of such a name is ./%s:…)",
			kmclient.ErrConfig, scheme, scheme)
	}
}

// Shown returns how a store is named for people: a URL without what stands before
// its hosts and behind its path, where a password can be.
func Shown(where string) string {
	scheme := Scheme(where)
	if scheme == "" {
		return where
	}
	rest := strings.TrimPrefix(where[len(scheme)+1:], "//")
	at := strings.LastIndexByte(rest, '@')
	if query := strings.IndexByte(rest, '?'); query >= 0 && query < at { // in which of both?
		return scheme + "://…"
	}
	rest, _, _ = strings.Cut(rest[at+1:], "?")
	rest, _, _ = strings.Cut(rest, "#")
	return scheme + "://" + rest
}
