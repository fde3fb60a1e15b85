// Package smtpwire is SMTP and LMTP as bytes: command lines, paths, parameters,
// replies and DATA. It is tolerant in what it reads and strict in what it
// writes, and knows nothing of sessions, queues or mail.
//
// Both ends of the relay are built on it, so that one grammar serves both: what
// one end has read the other can write.
package smtpwire
