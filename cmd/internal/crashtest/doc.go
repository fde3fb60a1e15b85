// Package crashtest kills whole relays, as they are installed, while they hold keys
// that a key manager has given away for good:
//
//	sender ─▶ encrypting relays ─▶ wire ─▶ decrypting relays ─▶ sink
//	                 │ enc_keys                    │ dec_keys, deletes
//	               KME A ══════════════════════ KME B
//
// Relays are processes that are killed with SIGKILL, and whose connections to the
// key managers and to the store are cut, again and again, at random. Everything
// else is in the test's own process: the key managers, because their keys must be
// known to check what was done with them; the sender and the wire, mail systems
// that keep a message until they get 250, try again after 4xx and after a lost
// connection, and count 5xx; and the sink.
//
// What must hold at the end is checked against all ciphertexts that were seen on
// the wire, even those that were cut off, and against all keys:
//
//   - Each message arrived at each recipient, byte for byte. The wire may give up
//     an encrypted message only if the key manager gave out its key and the answer
//     did not reach the store, because something was cut or killed in the middle.
//     The sender then sends that message again.
//   - No key ID is in two ciphertexts, each was recorded before it was used, and
//     each ciphertext is what its keys make of the message.
//   - A message arrived twice only where an answer was lost between the two 250s,
//     and never after it was answered.
package crashtest
