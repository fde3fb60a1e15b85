package kmclient

import "strings"

// A Connection is how a client last reached a key manager: what protects keys on their
// way from it. The names in JSON are this program's own.
type Connection struct {
	KME   string `json:"kme"`             // HOST:PORT, or HOST, as in the URL
	TLS   string `json:"tls,omitempty"`   // the version, such as "TLS 1.3"; empty: plain HTTP
	Group string `json:"group,omitempty"` // of the key agreement, by crypto/tls's name, such as "X25519MLKEM768"
}

// PostQuantum reports whether the key agreement is one that a quantum computer does not
// break by what is known today: one with ML-KEM (FIPS 203).
func (c Connection) PostQuantum() bool { return strings.Contains(c.Group, "MLKEM") }

// String says how the connection is protected, and what that means if it is not against
// a future quantum computer.
func (c Connection) String() string {
	switch {
	case c.TLS == "":
		return "plain HTTP: who is on the path reads the keys"
	case c.PostQuantum():
		return c.TLS + " with " + c.Group
	}
	return c.TLS + " with " + c.Group + ", which is not post-quantum: recorded today, readable later"
}
