// Package relaytest has what tests of whole relays share: the program as it is
// installed, processes that end with the test, ports, mail servers, connections
// that can be cut, ways to wait, and settings from the environment.
package relaytest
