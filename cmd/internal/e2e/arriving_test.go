package e2e

import (
	"bytes"
	"errors"
	"net/textproto"
	"strings"
	"testing"
	"time"
)

// TestArriving sends B messages that A's relay did not make. B refuses them before
// its queue, so the sender gets the refusal and there is no bounce.
func TestArriving(t *testing.T) {
	arriving(t, newWorld(t, options{}))
}

// arriving is TestArriving for any mail system that decrypts before its queue.
func arriving(t *testing.T, w *world) {
	t.Helper()
	const secret = "the-secret"
	send(t, w.a.ports[portOwn], "alice@a.example", []string{"bob@b.example"}, []byte("From: alice@a.example\r\n\r\n"+secret+"\r\n"))
	w.b.sink.one(t, "bob@b.example")
	sealed := w.ab.messages()[0]
	payload := bytes.LastIndex(sealed, []byte("base64\r\n\r\n")) + 30
	altered := bytes.Clone(sealed)
	altered[payload] ^= 3
	for _, c := range []struct {
		what, from string
		text       []byte
		code       int
		enhanced   string
	}{
		{"an altered payload", "alice@a.example", altered, 550, "5.7.7"},
		{"mail in clear in the name of a peer", "mallory@d.example", []byte("From: alice@a.example\r\n\r\nx\r\n"), 550, "5.7.1"},
		{"mail in clear with a peer's envelope", "alice@a.example", []byte("From: mallory@d.example\r\n\r\nx\r\n"), 550, "5.7.1"},
		{"a report in clear in the name of a peer", "", []byte("From: postmaster@a.example\r\n\r\nx\r\n"), 550, "5.7.1"},
	} {
		client, err := dial(w.b.ports[portInternet])
		if err != nil {
			t.Fatal(err)
		}
		err = client.send(c.from, []string{"bob@b.example"}, c.text)
		var reply *textproto.Error
		if !errors.As(err, &reply) || reply.Code != c.code || !strings.HasPrefix(reply.Msg, c.enhanced) {
			t.Errorf("%s: %v, want %d %s", c.what, err, c.code, c.enhanced)
		}
		client.close()
	}
	plain := "From: dave@d.example\r\nX-A: 1\r\n"
	send(t, w.b.ports[portInternet], "dave@d.example", []string{"open@b.example"},
		[]byte("Qkdmail-Result: mail.b.example; decrypt=pass\r\n"+plain+"qkdmail-result: another\r\n\r\nx\r\n"))
	m := w.b.sink.one(t, "open@b.example")
	if !bytes.HasSuffix(m.data, []byte(plain+"\r\nx\r\n")) || bytes.Contains(bytes.ToLower(m.data), []byte("qkdmail-result")) {
		t.Errorf("plain mail:\n%s", m.data)
	}
	time.Sleep(time.Second)
	if n := len(w.b.sink.to("bob@b.example")); n != 1 || len(w.a.sink.all()) != 0 || w.b.queue(t) != "" {
		t.Errorf("%d messages for bob, %d at A, or one in B's queue", n, len(w.a.sink.all()))
	}
}

// TestArrivingAfterQueue has OpenSMTPD take a message that its relay then refuses:
// the sender gets a bounce, encrypted if the rules say so.
func TestArrivingAfterQueue(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withOpenSMTPD(t))
	send(t, w.b.ports[portInternet], "alice@a.example", []string{"bob@b.example"}, []byte("From: alice@a.example\r\n\r\nforged\r\n"))
	if m := w.a.sink.one(t, "alice@a.example"); !bytes.Contains(m.data, []byte("bob@b.example: 550 5.7.1")) || !bytes.Contains(m.data, []byte(restored)) {
		t.Errorf("the bounce:\n%s", m.data)
	}
	if n := len(w.b.sink.all()); n != 0 {
		t.Errorf("%d messages arrived", n)
	}
}
