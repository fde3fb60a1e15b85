package postgres_test

import (
	"testing"

	"github.com/qkdmail/qkdmail/kmclient/keystore/internal/engine"
	"github.com/qkdmail/qkdmail/kmclient/keystore/internal/storetest"
	"github.com/qkdmail/qkdmail/kmclient/keystore/postgres"
)

// The suite that every engine passes.
func TestStore(t *testing.T) {
	server := shared(t)
	storetest.Run(t, func(t *testing.T) func() (engine.Engine, error) {
		url := newSchema(t, server)
		return func() (engine.Engine, error) { return postgres.Open(t.Context(), postgres.Options{URL: url}) }
	})
}
