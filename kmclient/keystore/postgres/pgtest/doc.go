// Package pgtest runs real PostgreSQL servers for tests, on the loopback interface,
// with ports and folders of their own. If PostgreSQL is not installed (Debian:
// postgresql), the test is skipped with a message.
package pgtest
