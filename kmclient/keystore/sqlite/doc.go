// Package sqlite is the engine of a key store that keeps its records in one SQLite
// file.
//
// What was changed is on disk when the call returns (write-ahead log,
// synchronous=FULL), as far as the system's fsync can be trusted; changes that are
// made at the same time share one fsync. Several processes may have the file open. It
// must be on a local disk: SQLite's locks don't work on most network file systems.
//
// The cost of an operation does not depend on how many records there are. A
// message takes three commits alone, and a tenth of that where twenty arrive at
// the same time. The file grows by 25 bytes for the ID of each key, sent or
// received, for ever, and by about 700 bytes for each arriving message, for as
// long as its tombstone is kept. Free room is used again.
//
// A damaged file is refused where the damage shows: at once if it is in the
// beginning or the write-ahead log, otherwise with the records that are damaged.
// Nobody gets another record instead. A record whose place SQLite has lost looks as
// if it had never been there, and only [keystore.Store.Check] notices; if the claim of
// a key is still there, the key counts as used. No check notices a wrong byte in a
// claim. Nothing mends a file: stop its process, keep the file, and put a backup in
// its place, without FILE-wal and FILE-shm.
//
// A copy of the file alone is no backup while it is open: the newest changes are in
// FILE-wal. [Engine.Backup] makes one.
package sqlite
