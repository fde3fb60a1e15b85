// Package cipher encrypts a whole e-mail message with keys from Quantum Key
// Distribution and gives it back octet for octet.
//
// [Encrypt] returns a Writer for the message and writes the encrypted one, an
// ordinary MIME message; [Decrypt] returns a Reader for the restored message;
// [Inspect] tells what can be told without a key. All of them stream: a
// message of any size takes the same memory. [io.Copy] to the Writer and from
// the Reader is the fastest way through them.
//
// The message is never parsed and written back. Its header is scanned, read
// only, for the few fields that have to stand outside as well; what is
// encrypted are the octets that came in. So signatures inside (DKIM, S/MIME,
// PGP) still verify.
//
// # Format, version 1
//
//	Qkdmail-Key-ID: 9b42e9e2-…                  the key ID, for filters and people
//	From, To, Cc, Date, Message-ID, …           copies of what transport and threading need
//	Subject: [...]                              see HeaderPolicy
//	MIME-Version: 1.0
//	Content-Type: multipart/mixed
//	 ├ text/plain                               a note for whoever sees this undecrypted
//	 └ multipart/encrypted; protocol="application/vnd.qkdmail"
//	    ├ application/vnd.qkdmail               the control part
//	    └ application/octet-stream              base64: the payload of the suite
//
// The control part holds Version, Suite, Time, Sender-SAE, Recipient-SAE and
// Key-ID, one on a line. Both suites authenticate the control octets, which
// are rebuilt from these values:
//
//	"qkdmail/1" LF, then Suite, Time, Sender-SAE, Recipient-SAE, Key-ID, each
//	as length (2 octets, big-endian) ‖ value
//
// # Suites
//
// AES-256-GCM takes one key of 256 bits a message:
//
//	salt(32) ‖ commitment(32) ‖ chunks of up to 65,536 octets, each with its tag(16)
//
// OTP takes as many octets of key as the message has, and a few more, and is
// secure against any computing power as long as keys are random and used once:
//
//	frame… = flags(1) ‖ n(1) ‖ n key IDs ‖ length(4) ‖ ciphertext ‖ tag(16)
//
// docs/format.md has every octet and the reason for it. Neither suite releases
// an octet of plaintext before it is authenticated.
//
// # What stays visible
//
// The length of the message, the time, the fields that stand outside, and that
// qkdmail was used.
package cipher
