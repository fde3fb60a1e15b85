package kmclient

import "crypto/sha256"

// An Identity distinguishes encrypted messages: the SHA-256 of their control octets and
// the beginning of their payload (docs/format.md has the details). A message that is
// sent again has the same Identity. No key is needed to compute it, so it proves
// nothing by itself.
type Identity [sha256.Size]byte
