package admin_test

import (
	"context"
	"fmt"
	"net"
	"net/http/httptest"

	"github.com/qkdmail/qkdmail/cmd/internal/admin"
	"github.com/qkdmail/qkdmail/cmd/internal/kmsim"
	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/mailer/relay"
	"github.com/qkdmail/qkdmail/mailer/relay/config"
)

// A relay is watched, and its state is served on a loopback address.
func ExampleMonitor() {
	watch := func(ctx context.Context, cfg *config.Config, relay *relay.Relay, km kmclient.KeyManager) error {
		m := admin.New(admin.Sources{Config: cfg, Keys: km, NextHops: relay})
		relay.Observe(m)
		go m.Run(ctx)
		l, err := net.Listen("tcp", "127.0.0.1:9464")
		if err != nil {
			return err
		}
		return admin.Serve(ctx, l, m.Handler(), admin.ServeOptions{})
	}
	_ = watch
}

// A simulated key manager has metrics too.
func ExampleSimulator() {
	metrics := admin.NewSimulator("v1.0.0")
	km, err := kmsim.NewQMail(kmsim.Options{Capacity: 100, Observe: metrics.Observe})
	if err != nil {
		fmt.Println(err)
		return
	}
	metrics.Watch(km.Stocks)

	answer := httptest.NewRecorder()
	metrics.Handler().ServeHTTP(answer, httptest.NewRequest("GET", "/readyz", nil))
	fmt.Print(answer.Body)
	// Output:
	// ready
	// simulator    ok       It serves.
}
