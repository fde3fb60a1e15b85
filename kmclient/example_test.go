package kmclient_test

import (
	"fmt"

	"github.com/qkdmail/qkdmail/kmclient"
)

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
