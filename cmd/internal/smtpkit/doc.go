// Package smtpkit is what load tests and benchmarks of the relay need around
// it: a client and a sink that stream and cost little, a plain relay to compare
// with, and a key manager that costs nothing.
package smtpkit
