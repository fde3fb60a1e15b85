package memory_test

import (
	"testing"

	"github.com/qkdmail/qkdmail/kmclient/keystore/internal/engine"
	"github.com/qkdmail/qkdmail/kmclient/keystore/internal/storetest"
	"github.com/qkdmail/qkdmail/kmclient/keystore/memory"
)

func TestEngine(t *testing.T) {
	storetest.Run(t, func(*testing.T) func() (engine.Engine, error) {
		m := memory.New()
		return func() (engine.Engine, error) { return m.Open(nil), nil }
	})
}
