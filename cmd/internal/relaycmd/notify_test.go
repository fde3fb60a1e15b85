package relaycmd

import (
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/cmd/internal/flags"
)

// TestNotify runs a relay as systemd does with Type=notify.
func TestNotify(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	t.Setenv("NOTIFY_SOCKET", socket)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	cmd := newRelay(&flags.Globals{})
	cmd.SetArgs([]string{"--config", configFile(t, relayConfig)})
	cmd.SetErr(io.Discard)
	done := make(chan error, 1)
	go func() { done <- cmd.ExecuteContext(ctx) }()
	notified := func() string {
		t.Helper()
		_ = l.SetReadDeadline(time.Now().Add(20 * time.Second))
		b := make([]byte, 100)
		n, err := l.Read(b)
		if err != nil {
			t.Fatalf("the service manager is not notified: %v", err)
		}
		return string(b[:n])
	}
	if got := notified(); got != "READY=1" {
		t.Fatalf("notified %q, want READY=1 once the relay listens", got)
	}
	stop()
	if got := notified(); got != "STOPPING=1" {
		t.Errorf("notified %q, want STOPPING=1", got)
	}
	// A SIGHUP that comes too late must not end the process, since messages may be under
	// way.
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Error(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}
