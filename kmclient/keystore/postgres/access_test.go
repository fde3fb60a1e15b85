package postgres_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keystore/internal/storetest"
	"github.com/qkdmail/qkdmail/kmclient/keystore/postgres"
	"github.com/qkdmail/qkdmail/kmclient/keystore/postgres/pgtest"
)

// asRole makes a role with the rights that a relay needs, and returns the URL for it.
func asRole(t *testing.T, server *pgtest.Server, url, role, attributes string) string {
	t.Helper()
	grants, err := postgres.Grants(url, role)
	if err != nil {
		t.Fatal(err)
	}
	server.Exec("DROP ROLE IF EXISTS " + role + "; CREATE ROLE " + role + " " + attributes + " PASSWORD '" + pgtest.Password + "'; " + grants)
	t.Cleanup(func() { server.Exec("DROP OWNED BY " + role + "; DROP ROLE " + role) })
	return withRole(url, role)
}

func withRole(url, role string) string { return strings.Replace(url, "//"+pgtest.User, "//"+role, 1) }

// A relay's role can do everything that a store does, and nothing else.
func TestRelayRole(t *testing.T) {
	server := shared(t)
	url := asRole(t, server, newSchema(t, server), "relay", "LOGIN")
	storetest.Messages(t, newStore(t, openEngine(t, url)), 20, 5)
	c, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close(t.Context()) }()
	for _, sql := range []string{
		"CREATE TABLE more (n int)", "DROP TABLE records", "ALTER TABLE records ADD more int", "DELETE FROM claims",
		"UPDATE other_claims SET scope=1", "TRUNCATE claims", "UPDATE level SET n=2", "DELETE FROM scopes",
	} {
		if _, err := c.Exec(t.Context(), sql); err == nil {
			t.Errorf("the role may do this: %s", sql)
		}
	}
	if err := postgres.Init(t.Context(), url); err != nil {
		t.Errorf("Init of an existing schema: %v, want no error", err)
	}
	wantRefused(t, postgres.Init(t.Context(), strings.Replace(url, "search_path=", "search_path=new_", 1)), "rights")
}

// Missing rights, schemas, roles and databases give clear errors.
func TestRefused(t *testing.T) {
	server := shared(t)
	url := newSchema(t, server)
	server.Exec("DROP ROLE IF EXISTS nothing; CREATE ROLE nothing LOGIN PASSWORD '" + pgtest.Password + "'")
	t.Cleanup(func() { server.Exec("DROP OWNED BY nothing; DROP ROLE nothing") })
	tests := map[string]struct{ url, words string }{
		"no rights":    {withRole(url, "nothing"), "qkdmail store init"},
		"no schema":    {url + "x", "qkdmail store init"},
		"no role":      {withRole(url, "nobody"), "refuses this role"},
		"bad password": {strings.Replace(url, pgtest.Password, "wr0ng", 1), "refuses this role"},
		"no database":  {strings.Replace(url, "/postgres?", "/other?", 1), "no such database"},
	}
	for name, test := range tests {
		_, err := postgres.Open(t.Context(), postgres.Options{URL: test.url})
		wantRefused(t, err, test.words)
		if err != nil && strings.Contains(err.Error(), "wr0ng") {
			t.Errorf("%s: the password shows", name)
		}
	}
	server.Exec("GRANT USAGE ON SCHEMA " + schemaName() + " TO nothing; GRANT SELECT ON " + schemaName() + ".level TO nothing")
	_, err := postgres.Open(t.Context(), postgres.Options{URL: withRole(url, "nothing")})
	wantRefused(t, err, "give it the rights")
}

// A schema of another version is left alone.
func TestLevels(t *testing.T) {
	server := shared(t)
	url := newSchema(t, server)
	put(t, openEngine(t, url), "a")
	server.Exec("UPDATE " + schemaName() + ".level SET n=n+1")
	_, err := postgres.Open(t.Context(), postgres.Options{URL: url})
	wantRefused(t, err, "later version")
	wantRefused(t, postgres.Init(t.Context(), url), "later version")
	server.Exec("UPDATE " + schemaName() + ".level SET n=n-1")
	if err := postgres.Init(t.Context(), url); err != nil {
		t.Error(err)
	}
	if get(t, openEngine(t, url), "a") == nil {
		t.Error("the record is gone")
	}
}

// A server that may lose what it has acknowledged is refused, and Warnings mentions one
// whose loss loses commits.
func TestUnsafe(t *testing.T) {
	t.Parallel()
	server := pgtest.Start(t)
	url := newSchema(t, server)
	s := openEngine(t, url)
	if w := strings.Join(s.Warnings(), "\n"); !strings.Contains(w, "synchronous_standby_names") {
		t.Errorf("warnings: %q", w)
	}
	for _, setting := range []string{"fsync", "full_page_writes"} {
		server.Restart(setting + "=off")
		_, err := postgres.Open(t.Context(), postgres.Options{URL: url})
		wantRefused(t, err, setting+"=off")
		wantRefused(t, second(s.Get(t.Context(), name("a"))), setting+"=off")
		server.Restart(setting + "=on")
	}
	for setting, want := range map[string]string{"off": "on", "local": "on", "remote_write": "on", "on": "on", "remote_apply": "remote_apply"} {
		server.Set("synchronous_commit", setting)
		if got := postgres.Setting(t, openEngine(t, url), "synchronous_commit"); got != want {
			t.Errorf("synchronous_commit=%s: got %s, want %s", setting, got, want)
		}
	}
}

func TestURLs(t *testing.T) {
	t.Setenv("PGPASSWORD", "")
	for url, good := range map[string]bool{
		"postgres://h/db":                          true,
		"postgresql://u:p%40@a:1,b:2/db":           true,
		"postgres:///db?host=/run/postgresql":      true,
		"postgres://u@h/db?search_path=x_1":        true,
		"postgres://u@h/db?pool_max_conns=3":       true,
		"postgres://u@h/db?sslmode=verify-full":    true,
		"":                                         false,
		"etcd://h":                                 false,
		"postgres:h":                               false,
		"host=h user=u":                            false,
		"postgres://u:s3cret/x@h/db":               false,
		"postgres://u:12/s3cret@h/db":              false,
		"postgres://u:s3cret%zz@h/db":              false,
		"postgres://u:s3cret@h:port/db":            false,
		"postgres://u:s3cret@h/db?sslmode=maybe":   false,
		"postgres://u@h/db?password=s3cret&x=%zz":  false,
		"postgres://u:s3cret@h/db?search_path=a,b": false,
		"postgres://u:s3cret@h/db?search_path=":    false,
		"postgres://h/db?target_session_attrs=odd": false,
		"postgres://u:s3cret@h/db?sslmode=verify-full&sslrootcert=/does/not/exist": false,
	} {
		err := postgres.CheckURL(url)
		if (err == nil) != good || !good && !errors.Is(err, kmclient.ErrConfig) {
			t.Errorf("%q: %v", url, err)
		}
		if err != nil && strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%q: the password shows: %v", url, err)
		}
	}
	for _, o := range []postgres.Options{{}, {URL: "postgres://h/db", Connections: -1}, {URL: "postgres://h/db", Timeout: -1}} {
		if _, err := postgres.Open(t.Context(), o); !errors.Is(err, kmclient.ErrConfig) {
			t.Errorf("%+v: got %v, want an ErrConfig", o, err)
		}
	}
}

// Warnings mentions a connection that may be in clear text, unless it stays on this
// machine.
func TestClearText(t *testing.T) {
	for url, clear := range map[string]bool{
		"postgres://h/db": true, "postgres://h/db?sslmode=disable": true, "postgres://h/db?sslmode=require": false,
		"postgres://127.0.0.1/db": false, "postgres://localhost,h/db": true, "postgres:///db?host=/run": false,
	} {
		if got := postgres.ClearText(t, url); got != clear {
			t.Errorf("%s: %v", url, got)
		}
	}
}
