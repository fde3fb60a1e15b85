// Package smtpwire is the grammar of SMTP and LMTP: command lines, paths, parameters,
// replies and DATA. It is tolerant in what it reads and strict in what it writes. Both
// ends of the relay use it: what one end has read the other can write.
package smtpwire
