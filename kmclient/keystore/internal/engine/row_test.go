package engine_test

import (
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/kmclient/keystore/internal/engine"
)

func TestTime(t *testing.T) {
	for _, at := range []time.Time{{}, time.Unix(1, 0), time.Unix(-1, 0), time.Unix(1<<40, 0)} {
		if got := engine.ToTime(engine.FromTime(at)); !got.Equal(at) {
			t.Errorf("%v comes back as %v", at, got)
		}
	}
}

// Only the canonical spelling is a UUID: any other is a different ID.
func TestUUID(t *testing.T) {
	for id, want := range map[string]bool{
		"9b42e9e2-38cc-4d7f-ba7e-94e0ed1a8a1c":          true,
		"9B42E9E2-38CC-4D7F-BA7E-94E0ED1A8A1C":          false,
		"9b42e9e238cc4d7fba7e94e0ed1a8a1c":              false,
		"{9b42e9e2-38cc-4d7f-ba7e-94e0ed1a8a1c}":        false,
		"urn:uuid:9b42e9e2-38cc-4d7f-ba7e-94e0ed1a8a1c": false,
		"MOCK-KEY-00000001-20251012195640":              false,
		"":                                              false,
	} {
		if u, ok := engine.UUID(id); ok != want || ok && u.String() != id {
			t.Errorf("%q: %v, %v, want %v", id, u, ok, want)
		}
	}
}

func TestCheckClaim(t *testing.T) {
	claim := engine.NewClaim(engine.Name{Kind: engine.Claim, ID: "x"})
	due := &engine.Record{Name: claim.Name, Due: time.Unix(1, 0)}
	value := &engine.Record{Name: claim.Name, Value: []byte("v")}
	for what, tt := range map[string]struct {
		change engine.Change
		good   bool
	}{
		"made":         {engine.Change{New: claim}, true},
		"removed":      {engine.Change{Old: claim}, false},
		"changed":      {engine.Change{Old: claim, New: value}, false},
		"only checked": {engine.Change{Old: claim, New: claim}, false},
		"with a value": {engine.Change{New: value}, false},
		"with a date":  {engine.Change{New: due}, false},
	} {
		if err := engine.CheckClaim(tt.change); (err == nil) != tt.good {
			t.Errorf("%s: %v", what, err)
		}
	}
}
