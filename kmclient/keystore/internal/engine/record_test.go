package engine_test

import (
	"strings"
	"testing"

	"github.com/qkdmail/qkdmail/kmclient/keystore/internal/engine"
)

func TestNameCheck(t *testing.T) {
	long := strings.Repeat("\xff", 255)
	for _, n := range []engine.Name{{}, {Kind: engine.Kind(long), KM: long, SAE: long, ID: long}} {
		if err := n.Check(); err != nil {
			t.Error(err)
		}
	}
	for _, n := range []engine.Name{{Kind: "a\x00"}, {KM: "\x00"}, {SAE: "a\x00b"}, {ID: "\x00"}, {ID: strings.Repeat("x", 256)}} {
		if n.Check() == nil {
			t.Errorf("%v is accepted", n)
		}
	}
}
