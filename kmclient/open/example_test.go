package open_test

import (
	"fmt"

	"github.com/qkdmail/qkdmail/kmclient/open"
)

func ExampleKeyManager() {
	for _, spec := range []string{"mock:keys.json", "https://km.example:8443", "km.example"} {
		km, err := open.KeyManager(spec, open.Options{})
		if err != nil {
			fmt.Println(err)
			continue
		}
		fmt.Printf("%T\n", km)
	}
	// Output:
	// *mock.KeyManager
	// *rest.Client
	// key manager configuration: a key manager is mock:PATH, mock: (for instance/mock_qkd_keys.json), http://HOST:PORT, https://HOST:PORT or etsi014:https://HOST:PORT
}

func ExampleFromEnv() {
	environment := map[string]string{"QKD_USE_MOCK": "false", "QKD_KM_HOST": "km.example", "QKD_KM_PORT": "8443"}
	getenv := func(name string) string { return environment[name] } // usually os.Getenv
	km, err := open.FromEnv(getenv, open.Options{})
	fmt.Printf("%T %v\n", km, err)
	// Output: *rest.Client <nil>
}
