// Package kmclient is the vocabulary of key managers: the systems at the two ends
// of a QKD link that hold the same keys and give each out under a key ID. ETSI
// calls one a KME (key management entity) and its caller an SAE (secure
// application entity).
//
// [KeyManager] is what a mail cipher needs from one. Packages etsi014 (ETSI GS QKD
// 014), rest (the QMail REST API) and mock (no hardware) implement it. Package open
// chooses one of them by a URL or the environment, keypool fetches keys ahead of their
// use, and keystore keeps received keys.
//
// Key sizes are in bits, and multiples of 8.
//
// Only [Key.Reveal] and [Key.RevealJSON] show the bytes of a key. [Key.Wipe] clears
// them, as far as it can: TLS, JSON and the garbage collector may leave copies. If a
// server sends more than its Content-Length, net/http prints the excess with package
// log. That may be a key, so a program should call log.SetOutput(io.Discard).
package kmclient
