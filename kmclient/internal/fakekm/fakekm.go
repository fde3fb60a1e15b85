// Package fakekm has keys, answers and certificates of key managers for the tests of
// their clients.
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

// RandomBytes returns a key of n bytes.
func RandomBytes(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return b
}

// Shows reports whether text shows six bytes of a key, in any form that fmt or
// encoding/json gives them.
func Shows(text string, secret []byte) bool {
	text = strings.ToLower(text)
	decimal := strings.Trim(fmt.Sprint(secret[:6]), "[]")
	for _, piece := range []string{
		string(secret[:6]),
		hex.EncodeToString(secret[:6]),
		fmt.Sprintf("% x", secret[:6]),
		strings.Trim(fmt.Sprintf("%#v", secret[:6]), "[]byte{}"),
		decimal,
		strings.ReplaceAll(decimal, " ", ","),
		base64.StdEncoding.EncodeToString(secret[:6]),
	} {
		if strings.Contains(text, strings.ToLower(piece)) {
			return true
		}
	}
	return false
}

// Answer returns a handler that answers with a status and a body.
func Answer(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// KeyJSON returns a key in the form that both APIs use in answers.
func KeyJSON(id string, secret []byte) string {
	return fmt.Sprintf(`{"key_ID":%q,"key":%q}`, id, base64.StdEncoding.EncodeToString(secret))
}

// Count returns a count, or -1 for nil.
func Count(n *int) int {
	if n == nil {
		return -1
	}
	return *n
}
