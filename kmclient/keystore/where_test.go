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
		if good := scheme == "" || scheme == "etcd"; good != (err == nil) || !good && !errors.Is(err, kmclient.ErrConfig) {
			t.Errorf("%q: %v", where, err)
		}
		if err != nil && strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%q: the error shows the password", where)
		}
	}
}
