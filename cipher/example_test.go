package cipher_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/kmclient/mock"
)

const exampleMessage = `From: Alice <alice@example.org>
To: bob@example.net
Subject: The merger

It is on.
`

// exampleKM is a mock key manager that both sides of an example share.
func exampleKM() (km *mock.KeyManager, remove func()) {
	dir, err := os.MkdirTemp("", "qkdmail")
	if err != nil {
		panic(err)
	}
	km, err = mock.New(mock.Options{Path: filepath.Join(dir, "keys.json")})
	if err != nil {
		panic(err)
	}
	return km, func() { _ = os.RemoveAll(dir) }
}

func ExampleEncrypt() {
	km, remove := exampleKM()
	defer remove()

	var outer strings.Builder
	w, err := cipher.Encrypt(context.Background(), &outer, km, &cipher.EncryptOptions{Suite: cipher.SuiteOTP})
	if err != nil {
		fmt.Println(err)
		return
	}
	if _, err := io.WriteString(w, exampleMessage); err != nil {
		w.Abort()
		fmt.Println(err)
		return
	}
	if err := w.Close(); err != nil {
		fmt.Println(err)
		return
	}
	for line := range strings.SplitSeq(outer.String(), "\n") {
		if strings.HasPrefix(line, "Subject:") || strings.HasPrefix(line, "Suite:") {
			fmt.Println(line)
		}
	}
	fmt.Println("shows what it is about:", strings.Contains(outer.String(), "merger"))
	// Output:
	// Subject: [...]
	// Suite: OTP
	// shows what it is about: false
}

func ExampleDecrypt() {
	km, outer, remove := encryptedExample(nil)
	defer remove()

	r, err := cipher.Decrypt(context.Background(), bytes.NewReader(outer), km, &cipher.DecryptOptions{
		Binder: cipher.Unbound, // or a keystore.Store, which makes sure that a key opens only one message
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	restored, err := io.ReadAll(r) // all of it is authentic if err is nil
	fmt.Println(string(restored) == exampleMessage, err)
	// Output: true <nil>
}

func ExampleInspect() {
	_, outer, remove := encryptedExample(nil)
	defer remove()

	info, err := cipher.Inspect(bytes.NewReader(outer))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(info.Suite, len(info.KeyIDs), "key,", info.PlaintextSize, "bytes")
	// Output: AES-256-GCM 1 key, 87 bytes
}

// With a hybrid suite, not even those who run or break a key manager can read the
// message.
func ExampleGenerateHybridKey() {
	private, err := cipher.GenerateHybridKey() // the recipient keeps it, and gives Public to peers
	if err != nil {
		fmt.Println(err)
		return
	}
	km, outer, remove := encryptedExample(&cipher.EncryptOptions{Hybrid: private.Public()})
	defer remove()

	r, err := cipher.Decrypt(context.Background(), bytes.NewReader(outer), km, &cipher.DecryptOptions{
		Binder: cipher.Unbound,
		Hybrid: []*cipher.HybridPrivateKey{private}, // while changing keys, add the old one
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	restored, err := io.ReadAll(r)
	fmt.Println(r.Info().Suite, string(restored) == exampleMessage, err)
	// Output: AES-256-GCM+X-WING true <nil>
}

// Before delivering a restored message, check who it is sealed for.
func ExampleReader_Recipients() {
	km, outer, remove := encryptedExample(&cipher.EncryptOptions{Recipients: []string{"bob@example.net"}})
	defer remove()

	r, err := cipher.Decrypt(context.Background(), bytes.NewReader(outer), km, &cipher.DecryptOptions{Binder: cipher.Unbound})
	if err != nil {
		fmt.Println(err)
		return
	}
	recipients, err := r.Recipients()
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, address := range []string{"Bob@Example.net", "mallory@example.net"} {
		fmt.Println(address, recipients.Include(address))
	}
	// Output:
	// Bob@Example.net true
	// mallory@example.net false
}

// encryptedExample returns exampleMessage, encrypted with a key of km.
func encryptedExample(opts *cipher.EncryptOptions) (km *mock.KeyManager, outer []byte, remove func()) {
	km, remove = exampleKM()
	var b bytes.Buffer
	w, err := cipher.Encrypt(context.Background(), &b, km, opts)
	if err != nil {
		panic(err)
	}
	if _, err := io.WriteString(w, exampleMessage); err != nil {
		panic(err)
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	return km, b.Bytes(), remove
}
