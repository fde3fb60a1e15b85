package storetest

import (
	"errors"
	"testing"

	"github.com/qkdmail/qkdmail/kmclient/keystore/internal/engine"
)

// A Place makes an empty place for records and returns a function that opens it. A test
// may call this several times for one place, as several processes would, and closes
// what it opens.
type Place func(t *testing.T) (open func() (engine.Engine, error))

// Run tests an engine.
func Run(t *testing.T, place Place) {
	for name, test := range map[string]func(*kit){
		"Get":        testGet,
		"Values":     testValues,
		"Conflict":   testConflict,
		"Atomic":     testAtomic,
		"Check":      testCheck,
		"Version":    testVersion,
		"NoABA":      testNoABA,
		"List":       testList,
		"Claims":     testClaims,
		"Due":        testDue,
		"Limits":     testLimits,
		"Race":       testRace,
		"Order":      testOrder,
		"Linear":     testLinear,
		"Reopen":     testReopen,
		"OtherSees":  testOtherSees,
		"GivenUp":    testGivenUp,
		"AfterClose": testAfterClose,
	} {
		t.Run(name, func(t *testing.T) {
			k := &kit{T: t, openEngine: place(t)}
			k.Engine = k.open()
			test(k)
		})
	}
}

// A kit is an engine on an empty place.
type kit struct {
	*testing.T
	engine.Engine
	openEngine func() (engine.Engine, error)
}

func (k *kit) open() engine.Engine {
	k.Helper()
	s, err := k.openEngine()
	if err != nil {
		k.Fatal(err)
	}
	k.Cleanup(func() { _ = s.Close() })
	return s
}

func name(id string) engine.Name {
	return engine.Name{Kind: engine.Receive, KM: "km", SAE: "sae", ID: id}
}

func record(id, value string) *engine.Record {
	return &engine.Record{Name: name(id), Value: []byte(value)}
}

func (k *kit) apply(changes ...engine.Change) {
	k.Helper()
	if err := k.Apply(k.Context(), changes...); err != nil {
		k.Fatal(err)
	}
}

// get returns the record with an ID, nil if there is none.
func (k *kit) get(s engine.Engine, id string) *engine.Record {
	k.Helper()
	records, err := s.Get(k.Context(), name(id))
	if err != nil || len(records) != 1 {
		k.Fatalf("get %s: %d records, %v", id, len(records), err)
	}
	return records[0]
}

func (k *kit) want(s engine.Engine, id, value string) {
	k.Helper()
	switch r := k.get(s, id); {
	case r == nil:
		k.Errorf("%s is not there", id)
	case string(r.Value) != value || r.Name != name(id):
		k.Errorf("%v is %.40q, want %.40q", r.Name, r.Value, value)
	}
}

func (k *kit) wantConflict(changes ...engine.Change) {
	k.Helper()
	if err := k.Apply(k.Context(), changes...); !errors.Is(err, engine.ErrConflict) {
		k.Errorf("got %v, want a conflict", err)
	}
}
