// Package fakekm has what tests of key manager clients share: keys, and the
// answers of key managers.
package fakekm

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// RandomBytes returns n octets that are a key for one test.
func RandomBytes(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return b
}

// Shows reports whether text holds a recognisable piece of a key, in any of
// the spellings that fmt and encoding/json have for octets.
func Shows(text string, octets []byte) bool {
	text = strings.ToLower(text)
	decimal := strings.Trim(fmt.Sprint(octets[:6]), "[]")
	for _, piece := range []string{
		string(octets[:6]),
		hex.EncodeToString(octets[:6]),
		fmt.Sprintf("% x", octets[:6]),
		strings.Trim(fmt.Sprintf("%#v", octets[:6]), "[]byte{}"),
		decimal,
		strings.ReplaceAll(decimal, " ", ","),
		base64.StdEncoding.EncodeToString(octets[:6]),
	} {
		if strings.Contains(text, strings.ToLower(piece)) {
			return true
		}
	}
	return false
}

// Answer writes body with a status.
func Answer(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

func KeyJSON(id string, octets []byte) string {
	return fmt.Sprintf(`{"key_ID":%q,"key":%q}`, id, base64.StdEncoding.EncodeToString(octets))
}

// Count returns a count, or -1 where none was said.
func Count(n *int) int {
	if n == nil {
		return -1
	}
	return *n
}
