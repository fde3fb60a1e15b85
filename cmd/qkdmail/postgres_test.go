package main

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/qkdmail/qkdmail/kmclient/keystore/postgres/pgtest"
	"github.com/rogpeppe/go-internal/testscript"
)

// TestPostgresScripts runs the scripts about stores in PostgreSQL on their own server,
// as its superuser and as a role that may only log in.
func TestPostgresScripts(t *testing.T) {
	server := pgtest.Start(t)
	server.Exec("CREATE ROLE relay LOGIN PASSWORD '" + pgtest.Password + "'")
	p := params(filepath.Join("testdata", "postgres"))
	setup := p.Setup
	p.Setup = func(e *testscript.Env) error {
		e.Setenv("POSTGRES", server.URL())
		e.Setenv("POSTGRES_RELAY", strings.Replace(server.URL(), "//"+pgtest.User, "//relay", 1))
		e.Setenv("POSTGRES_PASSWORD", pgtest.Password)
		return setup(e)
	}
	p.Cmds["psql"] = func(ts *testscript.TestScript, neg bool, args []string) {
		if neg || len(args) != 1 {
			ts.Fatalf("usage: psql FILE")
		}
		server.Exec(ts.ReadFile(args[0]))
	}
	testscript.Run(t, p)
}
