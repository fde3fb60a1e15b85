// Package postgres is a key store engine that keeps the records in PostgreSQL, so that
// several relays share them and the loss of a server loses nothing.
//
// A change is one transaction in one round trip. It is made only if every record still
// has the version that was read before: each statement checks that itself, which is
// enough at READ COMMITTED. Records that are read together are read at one moment.
// Nothing depends on an advisory lock, a lease or a clock. A change is sent again only
// if it was not sent, or the server answered that nothing was committed. Otherwise its
// outcome is unknown, and the caller reads the records again. The client cancels no
// statement, since a commit that waits for the standby would then be made without it.
//
// # No commit is lost silently
//
// A server that runs with fsync=off or full_page_writes=off is refused, and
// synchronous_commit is switched on for the store's connections. Each connection counts
// its commits in a row of the table sessions. Whenever a connection is made, its server
// must have all commits that this process has seen on any other. A server that was
// restored from a backup, or became the primary without the last commits, is skipped;
// if the URL has no other, everything is refused. Restart the relays only when the
// server is as it should be: a new process does not know what was lost.
//
// Without a synchronous standby, the last commits are lost with the server:
// [Engine.Warnings] says so. With one (synchronous_standby_names), a commit waits for
// it, and fails if it does not answer in time; to go on without one standby, relays
// need two, as in "ANY 1 (a, b)". Two servers must never take writes at the same time:
// whatever promotes a standby has to make sure that the old primary is gone. Relays
// that know of later commits skip an old primary that comes back; relays that were just
// started do not.
//
// # For the administrator
//
// PostgreSQL must be version 12 or later, in any encoding and collation. [Init]
// (qkdmail store init) makes the schema, qkdmail by default, as a role that may make
// schemas in the database; the relays' role needs the rights that [Grants] returns, and
// no more. The URL is libpq's, with several hosts, certificates and password file; see
// [Options]. Each relay uses up to 16 connections. A pooler in between must keep a
// connection on the same server connection for as long as it lasts (pgbouncer:
// pool_mode=session).
//
// If two relays change the same record, one of them gets a conflict, which the server
// logs as "division by zero". That is normal.
//
// A message whose key is closed takes 0.7 to 1.2 KiB, with its share of indexes and
// free space, until its tombstone goes. The ID of each key, sent or received, takes 52
// bytes and 55 in the index, forever: a million take about 107 MB.
//
// Overwritten or deleted data can no longer be read with SQL, but its bytes stay, still
// sealed: in the files until autovacuum has freed the space and it is used again, and
// in the write-ahead log, its archive and backups. To end that, the administrator runs
// VACUUM FULL on the table records and changes the store key (qkdmail store rotate). A
// relay's role can't do the former.
//
// A backup is a pg_dump of the schema, or a backup of the whole server. Before
// restoring one, stop all relays: keys used since the backup will seem unused.
//
// The SQL is meant to work with CockroachDB and YugabyteDB too, which speak the same
// protocol; no test here runs with them.
package postgres
