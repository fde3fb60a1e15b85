// Package loadtest has the tests of the relay that take a process, a great
// message or many clients: memory, sessions held open, clients that are slow on
// purpose. Its program benchrelay, which scripts/bench-relay runs, measures
// messages a second.
package loadtest
