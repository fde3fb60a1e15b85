package keystore_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keystore"
)

// TestScheme: a mistyped or unknown kind of store is not taken for a file.
func TestScheme(t *testing.T) {
	for where, scheme := range map[string]string{
		"keys.db": "", "/var/lib/qkdmail/keys.db": "", "./postgres://x": "", "dir/a:b": "", "a b:c": "", `C:\keys.db`: "", "c:keys.db": "", ":x": "", "": "", "none": "", "1a:x": "",
		"etcd://127.0.0.1:2379/x": "etcd", "etcd:x": "etcd",
		"postgres://u:s3cret@h/db": "postgres", "postgresql:x": "postgresql", "ectd://h:1": "ectd", "ETCD://h:1": "ETCD", "etcds://h:1": "etcds",
		"sqlite:keys.db": "sqlite", "sqlite3:///keys.db": "sqlite3", "file:keys.db": "file", "http://h": "http", "git+ssh://h": "git+ssh", "mysql:": "mysql",
	} {
		if got := keystore.Scheme(where); got != scheme {
			t.Errorf("%q: scheme %q, want %q", where, got, scheme)
		}
		err := keystore.CheckScheme(where)
		if good := scheme == "" || scheme == "postgres" || scheme == "postgresql"; good != (err == nil) || !good && !errors.Is(err, kmclient.ErrConfig) {
			t.Errorf("%q: %v", where, err)
		}
		if err != nil && strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%q: the error shows the password", where)
		}
	}
}

// TestShown: no password of a URL is shown, also if it is not escaped as it should be.
func TestShown(t *testing.T) {
	for where, want := range map[string]string{
		"keys.db": "keys.db", "dir/u:p@x.db": "dir/u:p@x.db", "none": "none",
		"mysql://127.0.0.1:2379/x":                      "mysql://127.0.0.1:2379/x",
		"postgres://relay@a:1,b:2/db":                   "postgres://a:1,b:2/db",
		"postgres://u:s3cret@a:1,b:2/db?sslmode=verify": "postgres://a:1,b:2/db",
		"postgres://u:s3/cr@et@h/db":                    "postgres://h/db",
		"postgres://u:s3?cret@h/db":                     "postgres://…",
		"postgresql://h/db?password=s3@cret":            "postgresql://…",
		"postgresql://h/db?password=s3cret":             "postgresql://h/db",
		"postgres:///db?host=/run":                      "postgres:///db",
	} {
		if got := keystore.Shown(where); got != want {
			t.Errorf("%q is shown as %q, want %q", where, got, want)
		}
	}
}
