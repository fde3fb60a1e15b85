package sqlite

// Commits returns how many commits were made since the file was opened, each with
// its fsync.
func (e *Engine) Commits() int64 { return e.file.Commits() }
