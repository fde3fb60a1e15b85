// Package sqlitedb keeps an SQLite file in the way that keys need: a change is on disk
// when [DB.Write] returns, deleted data is overwritten, and a new file is for its owner
// only. The permissions of an existing file stay as they are.
//
// One goroutine writes. Changes that arrive while it is busy with a commit share the
// next one, and its fsync. Other goroutines read at the same time. Several processes
// may have a file open.
//
// A file is never there half made: it is made under another name and linked to its own
// when it is complete. So an empty file must have been cut off, and is refused like
// every file that can't be ours. A refused file is left as it is.
package sqlitedb
