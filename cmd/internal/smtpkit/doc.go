// Package smtpkit has the minimum that load tests and benchmarks need around a
// relay: a client and a sink that stream, a bare relay to compare with, and keys
// that cost nothing.
package smtpkit
