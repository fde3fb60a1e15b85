// Package mailer puts package cipher into the way of mail: a relay that
// encrypts what leaves a site and decrypts what arrives there, over SMTP and
// LMTP, and wrappers that put the same step in front of a backend of one's own.
//
//	client ──▶ listener ──▶ Encrypt or Decrypt ──▶ next hop
//
// [Encrypt] and [Decrypt] wrap any [smtp.Backend] of github.com/emersion/go-smtp,
// and run under its server or the relay's own. [Relay] puts them between its
// listeners and a backend that delivers to another server.
//
// # Promises
//
//   - A message is never kept: what comes in as DATA goes through the cipher
//     and out as DATA. 250 is answered only after the next hop has answered
//     250, and its refusal is passed on.
//   - If anything fails in the middle, the outgoing connection is dropped
//     before the final dot, so that nothing half is delivered.
//   - Without a key, a key manager or a policy there is a temporary error, and
//     the mail waits in the queue of the mail system that sent it.
//
// # Replies
//
// Sessions return *smtp.SMTPError only: go-smtp's server makes a permanent failure
// of any other error and sends its text to the client.
package mailer
