// Package pgtest runs real PostgreSQL servers for tests, on the loopback interface,
// with free ports and folders of their own. Where no PostgreSQL is installed (Debian:
// postgresql) the test is skipped with a message.
package pgtest
