// Package mailer encrypts mail that leaves a site and decrypts mail that arrives
// there. [Encrypt] and [Decrypt] are steps around any [smtp.Backend] of
// github.com/emersion/go-smtp; a [Policy] says what they do. Package relay puts
// them between listeners and next hops.
//
// A message is never kept: what comes in as DATA goes through the cipher and out
// as DATA.
//
//   - Success is answered only after the next backend has answered it. Its
//     refusal is passed on.
//   - If anything fails in the middle, the next backend sees a reader that fails,
//     and must not deliver.
//   - Without a key, a key manager or a rule there is a temporary error, and the
//     mail waits in the queue of the mail system that sent it.
//
// Sessions return *smtp.SMTPError only: go-smtp's server answers any other error
// with a permanent failure and the text of the error.
package mailer
