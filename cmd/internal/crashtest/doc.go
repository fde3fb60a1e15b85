// Package crashtest has the tests that kill whole relays, as they are installed,
// while they have keys that a key manager has given away for good:
//
//	sender ─▶ encrypting relays ─▶ wire ─▶ decrypting relays ─▶ sink
//	                 │ enc_keys                    │ dec_keys, deletes
//	               KME A ══════════════════════ KME B
//
// Relays are processes that are killed with SIGKILL, and their ways to the key
// managers and to the store are cut, again and again, at random. All else is in
// the test's own process: the key managers, since their keys must be known in
// order to check what was done with them; the sender and the wire, which are
// mail systems that keep a message until they have got 250, try again after 4xx
// and after a lost connection, and count 5xx; and the sink.
//
// What must hold at the end, and what is checked against all ciphertexts that
// were seen on the wire, those that were cut off included, and all keys:
//
//   - Each message has arrived at each recipient, octet for octet. The wire may
//     have given up an encrypted message only if the key manager gave out its key
//     and the answer did not reach the store, since something was cut or killed
//     in the middle; the sender then sends that message again.
//   - No key ID stands in two ciphertexts, each was recorded before it was used,
//     and each ciphertext is what its keys make of the message.
//   - A message arrived twice only where an answer was lost between the two 250s,
//     and never once it was answered.
package crashtest
