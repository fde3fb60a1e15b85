package kmclient

import "crypto/sha256"

// An Identity tells encrypted messages apart. It is SHA-256 over what a message
// says of itself and the beginning of its payload; docs/format.md says over
// which bytes. The same message sent again has the same identity. It needs no
// key, so by itself it proves nothing.
type Identity [sha256.Size]byte
