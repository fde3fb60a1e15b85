// Package sqlite keeps the records of a keystore in one SQLite file.
//
// What Apply has changed is on disk when it returns (write-ahead log,
// synchronous=FULL), as far as the system's fsync can be trusted; changes that
// are asked for at the same time share one fsync. Several processes may have
// the file open. It lies on a local disk: SQLite's locks don't work on most
// network file systems.
//
// A copy of the file alone is no backup while it is open: the newest changes
// are in FILE-wal. [Store.Backup] makes one.
package sqlite

import (
	"fmt"

	"github.com/qkdmail/qkdmail/kmclient"
)

var errNoPath = fmt.Errorf("%w: the key store needs a path", kmclient.ErrConfig)
