// Package cipher encrypts whole e-mail messages with keys from Quantum Key
// Distribution and restores them byte for byte.
//
// [Encrypt] returns a Writer that takes a message and writes an ordinary MIME
// message with the encrypted one inside. [Decrypt] returns a Reader of the
// restored message. [Inspect] reports what can be known without a key. All of
// them stream, in memory that does not grow with the message. [io.Copy] to the
// Writer and from the Reader is the fastest way.
//
// A message is never parsed and written back: its header is only scanned for
// the few fields that are copied to the outer header. What is encrypted is what
// was written, so signatures inside (DKIM, S/MIME, PGP) still verify.
//
// Encrypt gets its keys from a [KeySource] and Decrypt from a [KeyFinder]; a
// kmclient.KeyManager is both. A [KeyBinder] makes sure that a key opens only one
// message.
//
// A message that is encrypted to a [HybridPublicKey] also needs the matching
// [HybridPrivateKey] to be opened. It is safe as long as either the key manager or
// X-Wing is. EncryptOptions.Recipients seals a message for its recipients, and
// [Reader.Recipients] names them before a byte of the message is released. A caller
// that delivers the message has to check them.
//
// docs/format.md defines the format, byte by byte, and gives the reasons:
//
//	Qkdmail-Key-ID: 9b42e9e2-…                  the key ID, for filters and people
//	From, To, Cc, Date, Message-ID, …           copies of what transport and threading need
//	Subject: [...]                              see HeaderPolicy
//	MIME-Version: 1.0
//	Content-Type: multipart/mixed
//	 ├ text/plain                               a note to people who can't decrypt
//	 └ multipart/encrypted; protocol="application/vnd.qkdmail"
//	    ├ application/vnd.qkdmail               suite, time, SAE IDs and key ID
//	    └ application/octet-stream              the payload of the suite, in base64
//
// A [Suite] makes the payload: AES-256-GCM from one key of 256 bits, or a one-time pad
// from as many key bytes as the message has, and a few more; each with or without
// X-Wing. The pad is secure against any computing power if its keys are random and used
// once. All suites authenticate the message, its recipient list and the control part,
// and release no byte of plaintext before it is authenticated.
//
// Visible to everyone are the length of the message and of its recipient list
// together, the time, the SAE IDs, the fingerprint of an X-Wing key, the fields
// of the outer header, and that qkdmail is in use.
package cipher
