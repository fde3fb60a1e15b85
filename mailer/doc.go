// Package mailer encrypts mail that leaves a site and decrypts mail that arrives there.
// [Encrypt] and [Decrypt] are steps that wrap any [smtp.Backend] of
// github.com/emersion/go-smtp; a [Policy] says what they do. Package relay puts them
// between listeners and next hops.
//
// Messages are never stored: what comes in as DATA goes through the cipher and out as
// DATA.
//
//   - The client is told of success only after the next backend has reported it. A
//     refusal is passed on.
//   - If anything fails in the middle of a message, the next backend gets an error from
//     its reader, and must not deliver.
//   - Without a key, a key manager or a rule, the answer is a temporary error, and the
//     mail waits in the queue of the mail system that sent it.
//
// Sessions return no error but *smtp.SMTPError: go-smtp's server turns any other error
// into a permanent failure with the error's text.
package mailer
