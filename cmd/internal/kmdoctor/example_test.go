package kmdoctor_test

import (
	"context"
	"fmt"
	"net"
	"os"

	"github.com/qkdmail/qkdmail/cmd/internal/kmdoctor"
	"github.com/qkdmail/qkdmail/cmd/internal/kmsim"
)

// A simulated KME with a known fault is checked; a real one is checked the
// same way.
func Example() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	dir, err := os.MkdirTemp("", "certs")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = os.RemoveAll(dir) }()
	certs := kmsim.Certs(dir)
	url, err := serve(ctx, certs)
	if err != nil {
		fmt.Println(err)
		return
	}

	cert, key := certs.Of("SAE_A")
	report, err := kmdoctor.Run(ctx, kmdoctor.Options{
		URL: url, KMEID: "KME_A", SAE: "SAE_A", Peer: "SAE_B", CertFile: cert, KeyFile: key, CAFile: certs.CA(),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, c := range report.Checks { // or kmdoctor.WriteTable
		if c.Result == kmdoctor.Fail {
			fmt.Println(c.Rule)
			fmt.Println("  ", c.Detail)
		}
	}
	fmt.Println(report.Summary())
	// Output:
	// ETSI GS QKD 014 V1.1.1: GET enc_keys obeys number and size in the query
	//    GET ?number=2&size=64: 1 key of 256 bits
	// 29 of 30 rules kept, 5 keys used; 8 not checked
}

// serve runs a KME that does not look at the query of a GET.
func serve(ctx context.Context, certs kmsim.Certs) (url string, err error) {
	if _, err := certs.Make(kmsim.CertOptions{}); err != nil {
		return "", err
	}
	config, err := certs.ServerTLS("KME_A")
	if err != nil {
		return "", err
	}
	network, err := kmsim.NewETSI(kmsim.TwoSites(), kmsim.Options{Quirks: kmsim.Quirks{IgnoreQuery: true}})
	if err != nil {
		return "", err
	}
	handler, err := network.Handler("KME_A")
	if err != nil {
		return "", err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	go func() { _ = kmsim.Serve(ctx, l, handler, kmsim.ServeOptions{TLS: config}) }()
	return "https://" + l.Addr().String(), nil
}
