package cipher_test

import (
	"sync"

	"github.com/qkdmail/qkdmail/cipher"
)

// suites are those that a message can have: what holds for one must hold for all.
var suites = cipher.Suites()

// hybridKey is the X-Wing key of the tests: the seed is the bytes 0 to 31.
var hybridKey = sync.OnceValue(func() *cipher.HybridPrivateKey {
	key, err := cipher.ParseHybridPrivateKey([]byte(pemBlock(privateType, counted(32))))
	if err != nil {
		panic(err)
	}
	return key
})

// forSuite completes options whose suite takes an X-Wing key.
func forSuite(opts *cipher.EncryptOptions) *cipher.EncryptOptions {
	if opts == nil || !opts.Suite.Hybrid() || opts.Hybrid != nil {
		return opts
	}
	with := *opts
	with.Hybrid = hybridKey().Public()
	return &with
}
