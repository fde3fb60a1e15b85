package kmclient

import "strings"

// A Connection tells how a client last reached a key manager, and so what protects keys
// on their way. The names in JSON are this program's own.
type Connection struct {
	KME   string `json:"kme"`             // HOST:PORT, or HOST, as in the URL
	TLS   string `json:"tls,omitempty"`   // the version, such as "TLS 1.3"; empty: plain HTTP
	Group string `json:"group,omitempty"` // of the key agreement, by crypto/tls's name, such as "X25519MLKEM768"
}

// PostQuantum reports whether the key agreement is one that, as far as is known today,
// no quantum computer breaks: one with ML-KEM (FIPS 203).
func (c Connection) PostQuantum() bool { return strings.Contains(c.Group, "MLKEM") }

// String says how the connection is protected, and the risk if that is not
// post-quantum.
func (c Connection) String() string {
	switch {
	case c.TLS == "":
		return "plain HTTP: anyone on the path can read the keys"
	case c.PostQuantum():
		return c.TLS + " with " + c.Group
	}
	return c.TLS + " with " + c.Group + ", which is not post-quantum: recorded today, readable later"
}
