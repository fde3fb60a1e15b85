package relay_test

import (
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/qkdmail/qkdmail/mailer"
	"github.com/qkdmail/qkdmail/mailer/internal/mailtest"
	"github.com/qkdmail/qkdmail/mailer/relay"
	"github.com/qkdmail/qkdmail/mailer/relay/config"
)

// A unix socket is guarded by its file; networks do not matter there.
func TestUnixSockets(t *testing.T) {
	mailtest.NoLeaks(t)
	dir := t.TempDir()
	hop := mailtest.StartHop(t, func(h *mailtest.Hop) {
		l, err := net.Listen("unix", filepath.Join(dir, "hop"))
		if err != nil {
			t.Fatal(err)
		}
		h.Listener = l
	})
	socket := filepath.Join(dir, "relay")
	set := func(c *config.Config) {
		c.Listeners[0].Address, c.Listeners[0].Networks = "unix:"+socket, nil
		c.Listeners[0].XForward = mailtest.Anywhere()
	}
	// A file left by a killed relay is replaced; one in use is not.
	left, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	left.(*net.UnixListener).SetUnlinkOnClose(false)
	cfg := mailtest.Config(mailer.DirectionEncrypt, hop.Addr())
	set(cfg)
	second, err := relay.New(cfg, relay.WithoutStore(mailtest.NewKM()), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Listen(t.Context()); err == nil {
		t.Error("two listen at one socket")
	}
	_ = left.Close()
	r := mailtest.StartRelay(t, mailer.DirectionEncrypt, hop.Addr(), set)
	if info, err := os.Stat(socket); err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("mode %v, %v; a mail system in the relay's group must be able to connect", info.Mode(), err)
	}
	if err := second.Listen(t.Context()); err == nil {
		t.Error("two listen at one socket")
	}
	c := mailtest.Connect(t, r)
	c.Want("550 5.7.1", c.Cmd("XFORWARD ADDR=192.0.2.1")) // it could be anyone
	c.Want("250", c.Attempt(mailtest.Text))
	if got := mailtest.Open(t, r.KM, hop.One().Data); got != mailtest.Text {
		t.Errorf("%q", got)
	}
	_ = r.Stop()
	if _, err := os.Stat(socket); err == nil {
		t.Error("the socket is still there")
	}
	// A file that is not a socket is left alone.
	if err := os.WriteFile(socket, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := second.Listen(t.Context()); err == nil {
		t.Error("a file was replaced")
	}
}
