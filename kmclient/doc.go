// Package kmclient talks to key managers: the systems at the two ends of a QKD
// link that hold the same keys and give each out under a key ID. ETSI calls
// one a KME (Key Management Entity) and its caller an SAE (Secure Application
// Entity).
//
// [KeyManager] has the four operations that a mail cipher needs. A package a
// protocol implements it:
//
//   - etsi014: ETSI GS QKD 014 V1.1.1, which QKD systems speak, over mutual
//     TLS.
//   - rest: the QMail REST API, over HTTP or HTTPS.
//   - mock: no hardware at all; random keys in one JSON file that the sending
//     and the receiving side share.
//
// Package open chooses one of them from the environment, or from a string such
// as "mock:keys.json" or "https://km.example:8443". Package keypool fetches keys
// ahead from any of them, package keystore keeps those that arrive.
//
// # Sizes
//
// Key sizes are bits, and multiples of 8, everywhere in this package; a
// [Key] tells its size in bits.
//
// # Secrets
//
// A [Key] shows its bytes to nobody who does not call [Key.Reveal] or
// [Key.RevealJSON]; fmt, slog and encoding/json print its ID and size only. It
// is wiped with [Key.Wipe]. Wiping is best effort: TLS, JSON decoding and the
// garbage collector may have left copies behind.
//
// One leak is not this package's to stop: when a key manager sends more octets
// than the Content-Length of its answer says, net/http prints the surplus with
// the standard library's log package. A program that keeps what that prints
// should send it nowhere: log.SetOutput(io.Discard).
//
// # Getting keys is not idempotent
//
// A key manager may delete a key once it has given it out, so [KeyManager.GetKeys]
// is never repeated after a failure that leaves open whether the keys were
// handed out; the client of ETSI 014 asks for new ones then. [Error.Retry] says whether
// asking again can help.
package kmclient
