// Package postgres is the engine of a key store that keeps its records in PostgreSQL,
// so that several relays share them and the loss of a server loses nothing.
//
// A change is one transaction in one round trip. It is made only if every record still
// has the version that was read before: each statement checks that itself, and that
// holds at READ COMMITTED. Records that are read together are read at one moment.
// Nothing depends on an advisory lock, a lease or a clock. A change is sent again only
// if it was not sent, or the server has answered that nothing was committed: otherwise
// its outcome is unknown, and the caller reads the records again. This side cancels no
// statement, since a commit that waits for the standby would be made without it.
//
// # No commit is lost in silence
//
// A server that runs with fsync=off or full_page_writes=off is refused, and
// synchronous_commit is switched on for the store's connections. Each connection
// counts its commits in a row of the table sessions. Whenever a connection is made, its
// server must have all commits that this process has seen on any other. One that was
// restored from a backup, or became the primary without the last commits, is skipped,
// and if the URL has no other, everything is refused. Start the relays again only when
// the server is as it should be: a process that is started then knows nothing of what
// was lost.
//
// Without a synchronous standby, the loss of the server is the loss of its last
// commits: [Engine.Warnings] says so. With one (synchronous_standby_names), a commit
// waits for it, and fails where it does not come back in time; relays need two
// standbys, as in "ANY 1 (a, b)", to go on without one. Two servers must never take
// writes at the same time: whatever promotes a standby has to make sure that the old
// primary is gone. Relays that know of later commits skip an old primary that comes
// back; relays that were just started do not.
//
// # For the administrator
//
// PostgreSQL 12 or later, in any encoding and collation. The schema, qkdmail by
// default, is made by Init (qkdmail store init) as a role that may make schemas in the
// database; the relays' role needs what [Grants] returns, and no more. The URL is
// libpq's, with several hosts, certificates and password file; see [Options]. Relays
// use up to 16 connections each. A pooler between them must leave a connection with its
// server for as long as it lasts (pgbouncer: pool_mode=session).
//
// Where two relays want the same record, one of them gets a conflict, which the server
// logs as "division by zero". That is as it should be.
//
// A message whose key is closed takes 0.7 to 1.2 KiB, with its share of the indexes and
// of free room, until its tombstone goes. The ID of each key, sent or received, takes 52
// bytes and 55 of the index, for ever: a million are about 107 MB.
//
// What was overwritten or deleted can no longer be read with SQL, but its bytes stay,
// sealed as they are: in the files until autovacuum has freed their room and that is
// used again, and in the write-ahead log, its archive and backups. Ending that is up to
// the administrator: VACUUM FULL of records, and a new store key (qkdmail store rotate).
// A relay's role can't do the first.
//
// A backup is pg_dump of the schema, or one of the whole server. To restore one, stop
// the relays first, all of them: the keys that were used since then seem unused.
//
// The SQL is meant to work with CockroachDB and YugabyteDB too, which speak the same
// protocol; no test here runs with them.
package postgres
