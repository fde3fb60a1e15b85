package kmclient_test

import (
	"fmt"

	"github.com/qkdmail/qkdmail/kmclient"
)

// Printing or logging a key does not show its bytes.
func ExampleKey() {
	k := kmclient.NewKey("key-1", []byte("as long as 20 bytes!"))
	fmt.Println(k)
	fmt.Println(len(k.Reveal()), "bytes")
	k.Wipe()
	fmt.Println(len(k.Reveal()), "bytes")
	// Output:
	// key key-1 (160 bits)
	// 20 bytes
	// 0 bytes
}
