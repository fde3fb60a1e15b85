package storetest_test

import (
	"testing"

	"github.com/qkdmail/qkdmail/kmclient/keystore"
	"github.com/qkdmail/qkdmail/kmclient/keystore/storetest"
)

func TestMemory(t *testing.T) {
	storetest.Run(t, func(*testing.T) func() (keystore.Store, error) {
		m := storetest.NewMemory()
		return func() (keystore.Store, error) { return m.Open(), nil }
	})
}
