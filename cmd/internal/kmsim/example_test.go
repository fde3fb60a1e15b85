package kmsim_test

import (
	"context"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"

	"github.com/qkdmail/qkdmail/cmd/internal/kmsim"
	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/rest"
)

func ExampleNewQMail() {
	ctx := context.Background()
	simulator, err := kmsim.NewQMail(kmsim.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	server := httptest.NewServer(simulator) // or kmsim.Serve
	defer server.Close()

	km, err := rest.New(rest.Options{URL: server.URL})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer km.CloseIdle()
	keys, err := km.GetKeys(ctx, "", 256, 2)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer kmclient.WipeAll(keys)
	fmt.Println(len(keys), "keys of", keys[0].Size(), "bits")
	// Output: 2 keys of 256 bits
}

// Two KMEs, each with an SAE; a real program calls Serve with the handlers.
func ExampleNewETSI() {
	network, err := kmsim.NewETSI(kmsim.TwoSites(), kmsim.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	handler, err := network.Handler("KME_A")
	if err != nil {
		fmt.Println(err)
		return
	}
	answer := httptest.NewRecorder() // without a client certificate
	handler.ServeHTTP(answer, httptest.NewRequest("GET", "/api/v1/keys/SAE_B/status", nil))
	fmt.Println(answer.Code)
	// Output: 401
}

func ExampleCerts_Make() {
	dir, err := os.MkdirTemp("", "certs")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = os.RemoveAll(dir) }()
	names, err := kmsim.Certs(filepath.Join(dir, "certs")).Make(kmsim.CertOptions{
		KMEs: []string{"KME_A"}, SAEs: []string{"SAE_A"},
	})
	fmt.Println(names, err)
	// Output: [ca.crt ca.key kme_a.crt kme_a.key sae_a.crt sae_a.key] <nil>
}
