// Package sqlite is a key store engine that keeps the records in one SQLite file.
//
// A change is on disk when the call returns (write-ahead log, synchronous=FULL), as far
// as the system's fsync can be trusted; changes made at the same time share one fsync.
// Several processes may have the file open. It must be on a local disk: SQLite's locks
// don't work on most network file systems.
//
// The cost of an operation does not depend on the number of records. A single message
// takes three commits, and a tenth of that when twenty arrive at the same time. The
// file grows by 25 bytes for the ID of each key, sent or received, forever, and by
// about 700 bytes for each arriving message, as long as its tombstone is kept. Free
// space is reused.
//
// A damaged file is refused where the damage shows: at once if it is in the beginning
// or the write-ahead log, otherwise when a damaged record is read. Nobody gets another
// record instead. A record that SQLite can no longer find looks as if it had never been
// there, and only [keystore.Store.Check] notices; if the claim of a key is still there,
// the key counts as used. No check notices a wrong byte in a claim. A damaged file
// can't be repaired: stop its process, keep the file, and put a backup in its place,
// without FILE-wal and FILE-shm.
//
// While the file is open, a copy of it alone is not a backup: the newest changes are in
// FILE-wal. Use [Engine.Backup].
package sqlite
