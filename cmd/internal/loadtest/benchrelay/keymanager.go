package main

import (
	"context"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/qkdmail/qkdmail/cmd/internal/kmsim"
)

// keyManagers are two linked ETSI KMEs over mutual TLS, in this process: one of
// each site.
type keyManagers struct {
	certs    string    // folder
	address  [2]string // of KME_A and KME_B
	requests atomic.Int64
	cancel   context.CancelFunc
	served   sync.WaitGroup
	sim      *kmsim.ETSI
}

func startKeyManagers(ctx context.Context, dir string) (*keyManagers, error) {
	k := &keyManagers{certs: filepath.Join(dir, "certs")}
	if _, err := kmsim.Certs(k.certs).Make(kmsim.CertOptions{}); err != nil {
		return nil, err
	}
	names := []string{"KME_A", "KME_B"}
	var err error
	k.sim, err = kmsim.NewETSI(kmsim.Topology{
		KMEs: names, SAEs: []kmsim.SAE{{ID: "SAE_A", KME: "KME_A"}, {ID: "SAE_B", KME: "KME_B"}},
	}, kmsim.Options{Observe: func(kmsim.Request) { k.requests.Add(1) }})
	if err != nil {
		return nil, err
	}
	ctx, k.cancel = context.WithCancel(ctx)
	for i, name := range names {
		if err := k.serve(ctx, i, name); err != nil {
			k.stop()
			return nil, err
		}
	}
	return k, nil
}

func (k *keyManagers) serve(ctx context.Context, i int, name string) error {
	handler, err := k.sim.Handler(name)
	if err != nil {
		return err
	}
	secure, err := kmsim.Certs(k.certs).ServerTLS(name)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	k.address[i] = l.Addr().String()
	k.served.Go(func() { _ = kmsim.Serve(ctx, l, handler, kmsim.ServeOptions{TLS: secure}) })
	return nil
}

func (k *keyManagers) stop() {
	k.cancel()
	k.served.Wait()
}
