package rest_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/rest"
)

func Example() {
	keyManager := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"keys":[{"key_ID":"key-1","key":"q83vEjRWeJA="}]}`)
	}))
	defer keyManager.Close()

	km, err := rest.New(rest.Options{URL: keyManager.URL})
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
