// Package sqlitedb keeps an SQLite file the way that keys need it: what a
// change has written is on disk when [DB.Write] returns, what is deleted is
// overwritten, and a file that it makes is for its owner only. The permissions of
// one that is there stay as they are.
//
// One goroutine writes. Changes that are asked for while it is busy with a
// commit share the next one, and its fsync. Others read at the same time.
// Several processes may have a file open.
//
// A file is never half there: it is made under another name and linked to its
// own when it is complete. So an empty file was cut off, and is refused like every
// file that can't be ours. What is refused is left as it is.
package sqlitedb
