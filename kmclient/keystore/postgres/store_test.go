package postgres_test

import (
	"testing"

	"github.com/qkdmail/qkdmail/kmclient/keystore"
	"github.com/qkdmail/qkdmail/kmclient/keystore/postgres"
	"github.com/qkdmail/qkdmail/kmclient/keystore/storetest"
)

// The suite that every engine passes.
func TestStore(t *testing.T) {
	server := shared(t)
	storetest.Run(t, func(t *testing.T) func() (keystore.Engine, error) {
		url := newSchema(t, server)
		return func() (keystore.Engine, error) { return postgres.Open(t.Context(), postgres.Options{URL: url}) }
	})
}
