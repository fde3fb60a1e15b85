package keystore_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keystore"
)

// A mistyped or unknown kind of store is not mistaken for a file.
func TestLocation(t *testing.T) {
	for kind, locations := range map[string][]keystore.Location{
		"file":     {"keys.db", "/var/lib/qkdmail/keys.db", "./postgres://x", "dir/a:b", "a b:c", `C:\keys.db`, "c:keys.db", "./host=h", "keys=1.db", "hosts", ":x", "", "none", "1a:x"},
		"postgres": {"postgres://u:s3cret@h/db", "postgresql:x"},
		"unknown": {
			"etcd://127.0.0.1:2379/x", "etcd:x", "ectd://u:s3cret@h:1", "ETCD://h:1", "etcds://h:1", "sqlite:keys.db", "sqlite3:///keys.db",
			"file:keys.db", "http://h", "git+ssh://h", "mysql:",
			"host=h user=u password=s3cret", "password = 's3cret' host=h", " USER=u dbname=x", "sslmode=require host=h:5432",
		},
	} {
		for _, l := range locations {
			if l.IsFile() != (kind == "file") || l.IsPostgres() != (kind == "postgres") {
				t.Errorf("%q: file %v, PostgreSQL %v, want %s", string(l), l.IsFile(), l.IsPostgres(), kind)
			}
			err := l.Check()
			if good := kind != "unknown"; good != (err == nil) || !good && !errors.Is(err, kmclient.ErrConfig) {
				t.Errorf("%q: %v", string(l), err)
			}
			if err != nil && strings.Contains(err.Error(), "s3cret") {
				t.Errorf("%q: the error shows the password", string(l))
			}
		}
	}
}

// A password in a URL is never shown, even if it is not escaped as it should be.
func TestLocationShown(t *testing.T) {
	for l, want := range map[keystore.Location]string{
		"keys.db": "keys.db", "dir/u:p@x.db": "dir/u:p@x.db", "none": "none",
		"mysql://127.0.0.1:2379/x":                      "mysql://127.0.0.1:2379/x",
		"postgres://relay@a:1,b:2/db":                   "postgres://a:1,b:2/db",
		"postgres://u:s3cret@a:1,b:2/db?sslmode=verify": "postgres://a:1,b:2/db",
		"postgres://u:s3/cr@et@h/db":                    "postgres://h/db",
		"postgres://u:s3?cret@h/db":                     "postgres://…",
		"postgresql://h/db?password=s3@cret":            "postgresql://…",
		"postgresql://h/db?password=s3cret":             "postgresql://h/db",
		"postgres:///db?host=/run":                      "postgres:///db",
		"host=h password=s3cret":                        "settings of PostgreSQL",
	} {
		if got := fmt.Sprint(l); got != want {
			t.Errorf("%q is shown as %q, want %q", string(l), got, want)
		}
	}
}
