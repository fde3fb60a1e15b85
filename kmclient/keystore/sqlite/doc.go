// Package sqlite keeps the records of a keystore in one SQLite file.
//
// What Apply has changed is on disk when it returns (write-ahead log,
// synchronous=FULL), as far as the system's fsync can be trusted; changes that
// are asked for at the same time share one fsync. Several processes may have
// the file open. It lies on a local disk: SQLite's locks don't work on most
// network file systems.
//
// What an operation costs does not depend on how many records there are. A
// message takes three commits alone, and a tenth of that where twenty arrive at
// the same time. The file grows by 25 bytes for the ID of each key, sent or
// received, for ever, and by about 700 bytes for each arriving message, for as
// long as its tombstone is kept. Room that becomes free is used again.
//
// A damaged file is refused where the damage shows: at once if it hit the
// beginning or the write-ahead log, else with the records that it hit. Nobody gets
// another record instead. A record whose place SQLite has lost looks as if it had
// never been there, and only [Engine.Check] finds out; if the claim of a key is still
// there, the key counts as used. No check sees a wrong byte in a claim. Nothing
// mends a file: stop its process, keep the file, and put a backup in its place,
// without FILE-wal and FILE-shm.
//
// A copy of the file alone is no backup while it is open: the newest changes
// are in FILE-wal. [Engine.Backup] makes one.
package sqlite

import (
	"fmt"

	"github.com/qkdmail/qkdmail/kmclient"
)

var errNoPath = fmt.Errorf("%w: the key store needs a path", kmclient.ErrConfig)
