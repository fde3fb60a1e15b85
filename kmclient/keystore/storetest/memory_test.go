package storetest_test

import (
	"testing"

	"github.com/qkdmail/qkdmail/kmclient/keystore"
	"github.com/qkdmail/qkdmail/kmclient/keystore/storetest"
)

func TestMemory(t *testing.T) {
	storetest.Run(t, func(*testing.T) func() (keystore.Engine, error) {
		m := storetest.NewMemory()
		return func() (keystore.Engine, error) { return m.Open(), nil }
	})
}
