package postgres_test

import (
	"strings"
	"testing"

	"github.com/qkdmail/qkdmail/kmclient/keystore/postgres"
	"github.com/qkdmail/qkdmail/kmclient/keystore/postgres/pgtest"
)

// The server's certificate is checked as the URL demands, and one from another CA is
// refused.
func TestTLS(t *testing.T) {
	t.Parallel()
	server := pgtest.Start(t)
	url := newSchema(t, server)
	secure := func(ca string) string {
		return strings.Replace(url, "sslmode=disable", "sslmode=verify-full&sslrootcert="+ca, 1)
	}
	_, err := postgres.Open(t.Context(), postgres.Options{URL: strings.Replace(url, "sslmode=disable", "sslmode=require", 1), Timeout: short})
	wantRefused(t, err, "refused TLS")
	ca, foreign := server.TLS()
	s := openEngine(t, secure(ca))
	put(t, s, "a")
	if on := server.Query("SELECT bool_and(ssl)::text FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name='qkdmail'"); on != "true" {
		t.Errorf("ssl: %s", on)
	}
	_, err = postgres.Open(t.Context(), postgres.Options{URL: secure(foreign), Timeout: short})
	wantRefused(t, err, "certificate")
}
