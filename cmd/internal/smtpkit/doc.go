// Package smtpkit has what load tests and benchmarks need around a relay, and as
// little of it as possible: a client and a sink that stream, a bare relay to
// compare with, and keys that cost nothing.
package smtpkit
