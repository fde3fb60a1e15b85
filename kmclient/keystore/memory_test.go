package keystore

import (
	"fmt"
	"github.com/qkdmail/qkdmail/kmclient"
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

// That a key belongs to a message is known until its record changes, of that
// message only.
func TestKnownToBelong(t *testing.T) {
	var m memory
	key, message, copied := Name{Kind: KindReceive, ID: "1"}, kmclient.Identity{1}, kmclient.Identity{2}
	want := func(what string, want bool) {
		t.Helper()
		if m.belongs(key, message) != want || m.belongs(key, copied) {
			t.Errorf("%s: %v, want %v; to another message: %v", what, !want, want, m.belongs(key, copied))
		}
	}
	m.bind(key, message)
	want("not noted", false)
	m.note(key, &Record{})
	want("not bound", false)
	m.bind(key, message)
	want("bound", true)
	for i := range recentRecords {
		m.note(Name{Kind: KindMessage, ID: fmt.Sprint(i)}, nil)
	}
	want("some time ago", true)
	m.note(key, &Record{})
	want("changed since", false)
	m.bind(key, message)
	m.forget(key)
	want("forgotten", false)
}
