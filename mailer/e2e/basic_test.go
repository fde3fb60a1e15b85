package e2e

import (
	"bytes"
	"strings"
	"testing"
)

// TestBothWays sends a message each way, as docs/postfix.md has it.
func TestBothWays(t *testing.T) {
	w := newWorld(t, options{})
	text := []byte("From: alice@a.example\r\nTo: bob@b.example\r\nSubject: the-secret-subject\r\n\r\nthe-secret-body\r\n")
	send(t, w.a.ports[portOwn], "alice@a.example", []string{"bob@b.example"}, text)
	m := w.b.sink.one(t, "bob@b.example")
	if !bytes.HasSuffix(m.data, text) || !strings.HasPrefix(string(m.data), "") {
		t.Errorf("arrived:\n%s", m.data)
	}
	t.Logf("%s", m.data)
	send(t, w.b.ports[portOwn], "bob@b.example", []string{"alice@a.example"}, text)
	m = w.a.sink.one(t, "alice@a.example")
	if !bytes.HasSuffix(m.data, text) {
		t.Errorf("arrived:\n%s", m.data)
	}
	t.Log(w.ab.octets(), w.ab.saw("the-secret-body"), len(w.ab.messages()))
}
