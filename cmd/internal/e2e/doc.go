// Package e2e has the tests of the relay between real Postfix servers: two
// sites, each with a Postfix and a relay, set up as docs/postfix.md says, and a
// wire between them whose octets are recorded.
//
//	own client ─▶ Postfix A ─▶ relay A ─▶ Postfix A ─▶ wire ─▶ Postfix B ─▶ relay B ─▶ Postfix B ─▶ sink B
//
// All of it runs in private folders, at loopback addresses only, and is stopped
// at the end. The tests need root, since Postfix does, and Postfix, swaks and
// OpenDKIM (scripts/install-test-tools); without them they say that they are
// skipped.
package e2e
