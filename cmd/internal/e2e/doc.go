// Package e2e tests the relay between real mail servers: two sites, each with a
// Postfix and a relay set up as in docs/postfix.md, and a wire between them that
// is recorded. Exim and OpenSMTPD, as in docs/exim.md and docs/opensmtpd.md, take
// the place of Postfix in some tests.
//
//	own client ─▶ Postfix A ─▶ relay A ─▶ Postfix A ─▶ wire ─▶ Postfix B ─▶ relay B ─▶ Postfix B ─▶ sink B
//
// Everything runs in private folders, on loopback addresses only, and is stopped
// at the end. The tests need root, because mail servers do, and Postfix, swaks,
// OpenDKIM and others (scripts/install-test-tools); without these they are
// skipped.
package e2e
