package loadtest

import (
	"bytes"
	"context"
	"testing"

	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/cmd/internal/smtpkit"
	"github.com/qkdmail/qkdmail/mailer"
	"github.com/qkdmail/qkdmail/mailer/relay"
	"github.com/qkdmail/qkdmail/mailer/relay/config"
)

// inProcess runs a relay in this process, with AES-256-GCM and keys that cost
// nothing. adapt, if not nil, changes its configuration.
func inProcess(t testing.TB, d mailer.Direction, sink string, adapt func(*config.Config)) (address string) {
	t.Helper()
	cfg, err := config.Quick(config.QuickOptions{Direction: d, Listen: "127.0.0.1:0", NextHop: sink, KM: config.KM{URL: "mock:unused"}})
	if err != nil {
		t.Fatal(err)
	}
	for i := range cfg.Rules {
		cfg.Rules[i].Suite = string(cipher.SuiteAES256GCM)
	}
	if adapt != nil {
		adapt(cfg)
	}
	r, err := relay.New(cfg, relay.WithoutStore(new(smtpkit.Keys)), nil)
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

// encrypted is what a relay makes of a message.
func encrypted(t testing.TB, message []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := cipher.Encrypt(t.Context(), &out, new(smtpkit.Keys), &cipher.EncryptOptions{CRLF: true})
	if err == nil {
		_, err = w.Write(message)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}
