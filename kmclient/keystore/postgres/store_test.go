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
	storetest.Run(t, func(t *testing.T) func() (keystore.Store, error) {
		url := newSchema(t, server)
		return func() (keystore.Store, error) { return postgres.Open(t.Context(), postgres.Options{URL: url}) }
	})
}
