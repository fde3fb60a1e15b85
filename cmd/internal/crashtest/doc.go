// Package crashtest kills whole relays, as they are installed, while they hold keys
// that a key manager has given away for good:
//
//	sender ─▶ encrypting relays ─▶ wire ─▶ decrypting relays ─▶ sink
//	                 │ enc_keys                    │ dec_keys, deletes
//	               KME A ══════════════════════ KME B
//
// Relays are processes. They are killed with SIGKILL, and their connections to the
// key managers and to the store are cut, again and again, at random. Everything
// else is in the test's own process: the key managers, because the test must know
// their keys to check how they were used; the sender and the wire, which are mail
// systems that keep a message until they get 250, try again after 4xx and after a
// lost connection, and count 5xx; and the sink.
//
// The following must hold at the end. It is checked against all ciphertexts seen on
// the wire, even truncated ones, and against all keys:
//
//   - Each message arrived at each recipient, byte for byte. The wire may give up
//     an encrypted message only if the key manager gave out its key and the answer
//     did not reach the store, because something was cut or killed in between. The
//     sender then sends that message again.
//   - No key ID is in two ciphertexts, each was recorded before it was used, and
//     each ciphertext is the message encrypted with its keys.
//   - A message arrived twice only if an answer was lost between the two 250s, and
//     never after its sender was answered.
package crashtest
