package loadtest

import (
	"context"
	"net"
	"sync"
	"testing"

	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/cmd/internal/smtpkit"
	"github.com/qkdmail/qkdmail/mailer"
	"github.com/qkdmail/qkdmail/mailer/relay"
	"github.com/qkdmail/qkdmail/mailer/relay/config"
)

// inProcess runs a relay in this process, with keys that cost nothing. adapt, if
// not nil, changes its configuration.
func inProcess(t testing.TB, d mailer.Direction, sink string, adapt func(*config.Config)) (address string) {
	t.Helper()
	r, err := smtpkit.NewRelay(config.QuickOptions{Direction: d, NextHop: sink}, relay.WithoutStore(new(smtpkit.Keys)), nil, adapt)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	if err := r.Listen(ctx); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- r.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return r.Addrs()[0].String()
}

// encrypted returns a message as a relay with these keys encrypts it.
func encrypted(t testing.TB, keys cipher.KeySource, message []byte) []byte {
	t.Helper()
	out, err := smtpkit.Encrypt(t.Context(), keys, message, cipher.EncryptOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// startSink serves a sink until the test ends.
func startSink(t testing.TB, sink *smtpkit.Sink) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { sink.Serve(l) })
	t.Cleanup(func() {
		_ = l.Close()
		wg.Wait()
	})
	return l.Addr().String()
}
