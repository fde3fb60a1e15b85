package storetest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/qkdmail/qkdmail/kmclient/keystore/internal/engine"
)

// The records of the test of linearizability: two that are changed, checked and
// deleted, like the record of a key, and two claims.
const (
	linearRecords = 2
	linearNames   = linearRecords + 2
)

func linearName(i int) engine.Name {
	if i < linearRecords {
		return name(fmt.Sprint(i))
	}
	return engine.Name{Kind: engine.Claim, KM: "km", SAE: "sae", ID: fmt.Sprintf("00000000-0000-4000-8000-%012d", i)}
}

// A linearState has the value of each record, or "" if there is none.
type linearState [linearNames]string

// A linearCall is a Get of one record, or an Apply.
type linearCall struct {
	get      int // which one; -1 for an Apply
	old, new linearState
	involved [linearNames]bool // by the Apply
}

// A linearAnswer is what a call returned.
type linearAnswer struct {
	value    string
	conflict bool
}

// step reports whether an answer fits a state, and returns the state after the call.
func (c linearCall) step(s linearState, a linearAnswer) (bool, linearState) {
	if c.get >= 0 {
		return s[c.get] == a.value, s
	}
	fits := true
	next := s
	for i := range s {
		if c.involved[i] {
			fits = fits && s[i] == c.old[i]
			next[i] = c.new[i]
		}
	}
	if a.conflict {
		return !fits, s
	}
	return fits, next
}

// All calls of several processes can be put into one order in which each gets the
// answer that it would get alone, and comes after those that were answered before it
// was made.
func testLinear(k *kit) {
	const clients, calls, patience = 6, 50, time.Minute
	start := time.Now()
	histories := make([][]porcupine.Operation, clients)
	var all sync.WaitGroup
	for c := range clients {
		s := k.open()
		all.Go(func() {
			l := linearClient{kit: k, store: s, id: c, start: start}
			for range calls {
				l.act()
			}
			histories[c] = l.history
		})
	}
	all.Wait()
	model := porcupine.Model{
		Init: func() any { return linearState{} },
		Step: func(state, in, out any) (bool, any) {
			return in.(linearCall).step(state.(linearState), out.(linearAnswer))
		},
	}
	if result := porcupine.CheckOperationsTimeout(model, slices.Concat(histories...), patience); result != porcupine.Ok {
		k.Errorf("there is no order in which all calls are answered as they were: %s", result)
	}
}

// A linearClient makes one call after another.
type linearClient struct {
	*kit
	store   engine.Engine
	id      int
	start   time.Time
	history []porcupine.Operation
	known   [linearNames]*engine.Record // as last read or written
}

// act makes a call and adds it to the history.
func (l *linearClient) act() {
	call := linearCall{get: -1}
	var changes []engine.Change
	if i := rand.IntN(2 * linearNames); i < linearNames {
		call.get = i
	} else {
		changes = l.changes(&call)
	}
	made := time.Since(l.start).Nanoseconds()
	var answer linearAnswer
	var err error
	if call.get >= 0 {
		answer.value, err = l.read(call.get)
	} else {
		err = l.store.Apply(l.Context(), changes...)
		answer.conflict = errors.Is(err, engine.ErrConflict)
	}
	answered := time.Since(l.start).Nanoseconds()
	if err != nil && !answer.conflict {
		l.Error(err)
		return
	}
	if err == nil && call.get < 0 {
		l.learn(changes)
	}
	l.history = append(l.history, porcupine.Operation{ClientId: l.id, Input: call, Call: made, Output: answer, Return: answered})
}

// read returns the value of a record.
func (l *linearClient) read(i int) (string, error) {
	got, err := l.store.Get(l.Context(), linearName(i))
	if err != nil {
		return "", err
	}
	l.known[i] = got[0]
	return valueOf(got[0]), nil
}

// valueOf returns the value of a record; that of a claim is always the same.
func valueOf(r *engine.Record) string {
	switch {
	case r == nil:
		return ""
	case r.Kind == engine.Claim:
		return "claimed"
	}
	return string(r.Value)
}

// changes returns some changes, which expect what the client saw last.
func (l *linearClient) changes(call *linearCall) (changes []engine.Change) {
	for len(changes) == 0 {
		for i := range linearNames {
			if rand.IntN(2) == 0 {
				continue
			}
			c := engine.Change{Old: l.known[i]}
			switch what := rand.IntN(4); {
			case i >= linearRecords && c.Old != nil: // a claim stays as it is
				continue
			case i >= linearRecords:
				c.New = &engine.Record{Name: linearName(i)}
			case c.Old != nil && what == 0:
				c.New = c.Old
			case c.Old != nil && what == 1: // deleted
			default:
				c.New = &engine.Record{Name: linearName(i), Value: []byte(fmt.Sprint(rand.Uint64()))}
			}
			call.involved[i], call.old[i], call.new[i] = true, valueOf(c.Old), valueOf(c.New)
			changes = append(changes, c)
		}
	}
	return changes
}

// learn remembers what the client has written.
func (l *linearClient) learn(changes []engine.Change) {
	for i := range linearNames {
		for _, c := range changes {
			if c.Name() == linearName(i) {
				l.known[i] = c.New
			}
		}
	}
}
