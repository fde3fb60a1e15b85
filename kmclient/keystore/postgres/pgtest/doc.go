// Package pgtest runs PostgreSQL servers for tests: real ones, on the loopback
// interface, with free ports and folders of their own. Where no PostgreSQL is
// installed (Debian: postgresql) the test is skipped and says so.
package pgtest
