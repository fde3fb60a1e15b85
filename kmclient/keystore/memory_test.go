package keystore

import (
	"fmt"
	"testing"
)

// A record that is noted again takes the room that it took before.
func TestNotedAgain(t *testing.T) {
	var m memory
	name := func(id int) Name { return Name{Kind: KindMessage, ID: fmt.Sprint(id)} }
	m.note(name(0), nil)
	for i := range 4 * recentRecords {
		m.note(name(1), &Record{Value: make([]byte, recentOctets/2-i)})
	}
	if m.octets != recentOctets/2-4*recentRecords+1 || m.old != nil {
		t.Errorf("%d octets are counted, and %d records have become old", m.octets, len(m.old))
	}
	m.forget(name(1))
	if _, ok := m.recall(name(0)); !ok || m.octets != 0 {
		t.Errorf("%d octets are counted of what was forgotten", m.octets)
	}
	for i := range recentRecords - 1 {
		m.note(name(i), nil)
	}
	m.note(name(0), nil)
	if m.note(name(-1), nil); m.old != nil {
		t.Error("there was room for one more")
	}
	if m.note(name(-2), nil); len(m.old) != recentRecords || len(m.young) != 1 {
		t.Errorf("%d are old and %d young, want all but one old", len(m.old), len(m.young))
	}
}
