package storetest_test

import (
	"testing"

	"github.com/qkdmail/qkdmail/kmclient/keystore/internal/engine"
	"github.com/qkdmail/qkdmail/kmclient/keystore/internal/storetest"
)

func TestMemory(t *testing.T) {
	storetest.Run(t, func(*testing.T) func() (engine.Engine, error) {
		m := storetest.NewMemory()
		return func() (engine.Engine, error) { return m.Open(), nil }
	})
}
