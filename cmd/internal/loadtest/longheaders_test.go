package loadtest

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/cmd/internal/smtpkit"
	"github.com/qkdmail/qkdmail/kmclient/mock"
)

// mostHeld is the memory, in KiB, that a relay may take for 500 clients that do not
// end their messages, which have headers of up to 256 KiB.
const mostHeld = 300 << 10

// TestRelayLongHeaders has 500 clients send all but the end of a message with a long
// header, or as much of it as the relay takes. The memory for all of them is
// bounded, whatever the header consists of.
func TestRelayLongHeaders(t *testing.T) {
	needsFigures(t)
	const (
		size = 250_000
		body = "\r\nbody\r\n"
	)
	start := "From: load@a.example\r\nTo: bob@b.example\r\n"
	headers := map[string]string{
		"small fields": start + strings.Repeat("a:\r\n", size/4),
		"one From":     "From: " + strings.Repeat("a@a.example, ", size/14) + "a@a.example\r\n",
		"trace fields": strings.Repeat("Authentication-Results: "+strings.Repeat("x", 900)+"\r\n", size/926) + start,
	}
	keys := filepath.Join(t.TempDir(), "keys.json")
	km, err := mock.New(mock.Options{Path: keys})
	if err != nil {
		t.Fatal(err)
	}
	sealed := func(message string) string { return string(encrypted(t, km, []byte(message))) }
	shapes := map[string]string{}
	for name, header := range headers {
		shapes["encrypt: "+name] = header + body
		shapes["decrypt: "+name] = header + body
		shapes["decrypt: ours, outside "+name] = header + sealed(start+body)
		shapes["decrypt: ours, inside "+name] = sealed(header + body)
	}
	shapes["encrypt: looks encrypted"] = "Qkdmail-Key-ID: x\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n" + headers["small fields"] + body
	for name, message := range shapes {
		t.Run(name, func(t *testing.T) {
			sink := startSink(t, &smtpkit.Sink{})
			direction, _, _ := strings.Cut(name, ":")
			r := startRelay(t, direction, sink, keys)
			refused := hold(t, r, message)
			_, most := r.memory(t)
			t.Logf("%d KiB at most; %d of %d clients were refused", most, refused, heldSessions)
			if most > mostHeld {
				t.Errorf("%d KiB of memory for %d clients, want %d at most", most, heldSessions, mostHeld)
			}
			if refused == heldSessions {
				t.Error("no message was taken")
			}
		})
	}
}

// hold has all clients send a message without its end, and waits until the relay has
// it. It returns how many clients were refused.
func hold(t *testing.T, r *relayProcess, message string) (refused int) {
	t.Helper()
	clients := make([]*smtpkit.Client, heldSessions)
	each(t, func(i int) (err error) {
		if clients[i], err = smtpkit.Dial(r.address, time.Minute); err != nil {
			return err
		}
		if clients[i].Begin("load@a.example", "bob@b.example") == nil {
			_, _ = io.WriteString(clients[i], message[:len(message)-4]) // it may be refused in the middle
			_ = clients[i].Flush()
		}
		return nil
	})
	time.Sleep(time.Second) // the relay has everything
	for _, c := range clients {
		_ = c.Conn.SetReadDeadline(time.Now().Add(time.Millisecond))
		if _, err := c.Conn.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			refused++
		}
		_ = c.Conn.Close()
	}
	return refused
}
