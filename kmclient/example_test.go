package kmclient_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"

	"github.com/qkdmail/qkdmail/kmclient"
)

// Sender and recipient have a mock each, on the same file.
func ExampleNewMock() {
	dir, err := os.MkdirTemp("", "mock")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = os.RemoveAll(dir) }()
	km, err := kmclient.NewMock(kmclient.MockOptions{Path: filepath.Join(dir, "keys.json")})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	sent, err := km.GetKeys(ctx, "", 256, 2)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer kmclient.WipeAll(sent)
	received, err := km.KeysByID(ctx, "", sent[1].ID())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer kmclient.WipeAll(received)
	fmt.Println(len(sent), "keys of", sent[0].Size(), "bits; the second again:", received[0].ID() == sent[1].ID())
	// Output: 2 keys of 256 bits; the second again: true
}

func ExampleNewREST() {
	keyManager := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"keys":[{"key_ID":"key-1","key":"q83vEjRWeJA="}]}`)
	}))
	defer keyManager.Close()

	km, err := kmclient.NewREST(kmclient.RESTOptions{URL: keyManager.URL})
	if err != nil {
		fmt.Println(err)
		return
	}
	keys, err := km.GetKeys(context.Background(), "", 64, 1)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer kmclient.WipeAll(keys)
	fmt.Println(keys[0])
	// Output: key key-1 (64 bits)
}

// Two KMEs of one site; the second is asked where the first can't serve.
func ExampleNewETSI014() {
	km, err := kmclient.NewETSI014(kmclient.ETSI014Options{
		URLs:     []string{"https://kme-a1.example:8443", "https://kme-a2.example:8443"},
		KMEID:    "KME_A1,KME_A2",
		SAE:      "SAE_A",
		CertFile: "sae_a.crt", KeyFile: "sae_a.key", CAFile: "ca.crt",
		Logger: slog.Default(),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = km.Close() }()
	keys, err := km.GetKeys(context.Background(), "SAE_B", 256, 1)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer kmclient.WipeAll(keys)
	fmt.Println(keys[0])
}

func ExampleOpen() {
	for _, spec := range []string{"mock:keys.json", "https://km.example:8443", "km.example"} {
		km, err := kmclient.Open(spec, kmclient.Options{})
		if err != nil {
			fmt.Println(err)
			continue
		}
		fmt.Printf("%T\n", km)
	}
	// Output:
	// *kmclient.Mock
	// *kmclient.REST
	// key manager configuration: a key manager is mock:PATH, mock: (for instance/mock_qkd_keys.json), http://HOST:PORT, https://HOST:PORT or etsi014:https://HOST:PORT
}

func ExampleFromEnv() {
	environment := map[string]string{"QKD_USE_MOCK": "false", "QKD_KM_HOST": "km.example", "QKD_KM_PORT": "8443"}
	getenv := func(name string) string { return environment[name] } // usually os.Getenv
	km, err := kmclient.FromEnv(getenv, kmclient.Options{})
	fmt.Printf("%T %v\n", km, err)
	// Output: *kmclient.REST <nil>
}

// A key that is printed or logged hides its octets.
func ExampleKey() {
	k := kmclient.NewKey("key-1", []byte("an octet a character"))
	fmt.Println(k)
	fmt.Println(len(k.Reveal()), "octets")
	k.Wipe()
	fmt.Println(len(k.Reveal()), "octets")
	// Output:
	// key key-1 (160 bits)
	// 20 octets
	// 0 octets
}
