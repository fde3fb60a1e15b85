package etsi014_test

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/etsi014"
)

// Two KMEs of one site; the second is asked if the first can't serve.
func Example() {
	km, err := etsi014.New(etsi014.Options{
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
	defer km.CloseIdle()
	keys, err := km.GetKeys(context.Background(), "SAE_B", 256, 1)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer kmclient.WipeAll(keys)
	fmt.Println(keys[0])
}
