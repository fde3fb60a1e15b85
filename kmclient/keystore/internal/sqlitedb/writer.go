package sqlitedb

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"

	"github.com/qkdmail/qkdmail/kmclient"
)

const (
	maxBatch = 128 // most changes that share one commit
	yields   = 3   // how often goroutines that are about to ask for a change may run first
)

// A job waits for its turn with the writer.
type job struct {
	do    func(*Conn) error
	apart bool // outside a transaction
	err   error
	done  chan struct{} // closed once err is settled
}

// Write makes a change: everything that do does, or nothing if do returns an error. It
// returns once the change is on disk. An error of do is returned as it is, unless it is
// SQLite's, and only if what do has read was committed.
//
// The end of the caller's context ends the wait for the writer, but not a change that
// has begun, so there is seldom doubt about what happened.
func (db *DB) Write(ctx context.Context, do func(*Conn) error) error {
	return db.submit(ctx, &job{do: do})
}

func (db *DB) submit(ctx context.Context, j *job) error {
	if err := db.ready(ctx); err != nil { // select would choose at random
		return err
	}
	j.done = make(chan struct{})
	select {
	case db.jobs <- j:
		<-j.done
		return db.storeError(j.err)
	case <-ctx.Done():
		return kmclient.Canceled(ctx)
	case <-db.quit:
		return db.closedError()
	}
}

// ready returns an error if nothing can be done any more.
func (db *DB) ready(ctx context.Context) error {
	select {
	case <-db.quit:
		return db.closedError()
	default:
	}
	if ctx.Err() != nil {
		return kmclient.Canceled(ctx)
	}
	return nil
}

// run is the writer: it commits together what came in while it was busy with the
// last commit.
func (db *DB) run() {
	defer close(db.done)
	for {
		select {
		case j := <-db.jobs:
			db.serve(db.gather(j))
		case <-db.quit:
			return
		}
	}
}

// gather returns the jobs that are waiting, after letting every goroutine run that can:
// a commit costs more than that. It never sleeps.
func (db *DB) gather(first *job) []*job {
	jobs := []*job{first}
	for yielded := 0; len(jobs) < maxBatch; {
		select {
		case j := <-db.jobs:
			jobs, yielded = append(jobs, j), 0
		default:
			if yielded == yields {
				return jobs
			}
			yielded++
			runtime.Gosched()
		}
	}
	return jobs
}

func (db *DB) serve(jobs []*job) {
	var batch []*job
	for _, j := range jobs {
		if !j.apart {
			batch = append(batch, j)
		}
	}
	if len(batch) > 0 {
		db.commits.Add(1)
		db.writer.commit(batch, db.mayCommit)
	}
	for _, j := range jobs {
		if j.apart {
			j.err = j.do(db.writer)
			close(j.done)
		}
	}
}

// mayCommit returns an error if a change of the file would not last, or not be
// understood. SQLite goes on writing to a file that was moved or removed, which nobody
// will open again.
func (db *DB) mayCommit() error {
	if now, err := os.Stat(db.path); errors.Is(err, fs.ErrNotExist) || err == nil && !os.SameFile(now, db.file) {
		return errMoved
	} else if err != nil {
		return fmt.Errorf("%w %s: %w", kmclient.ErrStore, db.path, err)
	}
	_, err := db.writer.version(db.format)
	return err
}

// commit does jobs in one transaction. A job that fails undoes only what it did itself.
// If the transaction fails, every job fails, since none may rely on what was not
// committed.
func (c *Conn) commit(batch []*job, may func() error) {
	err := c.Exec("BEGIN IMMEDIATE")
	if err == nil {
		err = may()
	}
	for _, j := range batch {
		if err == nil {
			err = c.nested(j)
		}
	}
	if err == nil {
		err = c.Exec("COMMIT")
	}
	if err != nil {
		_ = c.Exec("ROLLBACK") // SQLite may have done so already
	}
	for _, j := range batch {
		if err != nil {
			j.err = err
		}
		close(j.done)
	}
}

// nested does one job in the transaction of its batch. It returns an error if that
// transaction can't go on.
func (c *Conn) nested(j *job) error {
	if err := c.Exec("SAVEPOINT job"); err != nil {
		return err
	}
	if j.err = j.do(c); j.err != nil {
		if c.Exec("ROLLBACK TO job") != nil {
			return j.err // it ended the transaction, as a full disk does
		}
	}
	return c.Exec("RELEASE job")
}

// Read calls look with a connection that sees one state of the database, with every
// change whose Write has returned.
func (db *DB) Read(ctx context.Context, look func(*Conn) error) error {
	return db.apart(ctx, func(c *Conn) error {
		if err := c.Exec("BEGIN"); err != nil {
			return err
		}
		_, err := c.version(db.format)
		if err == nil {
			err = look(c)
		}
		if end := c.Exec("ROLLBACK"); err == nil { // nothing was written
			err = end
		}
		return err
	})
}

// apart calls do with a connection that is not in a transaction. The writer goes on
// meanwhile.
func (db *DB) apart(ctx context.Context, do func(*Conn) error) error {
	if err := db.ready(ctx); err != nil {
		return err
	}
	select {
	case <-db.readers.free:
		c := db.readers.take()
		defer db.readers.give(c)
		return db.storeError(do(c))
	case <-ctx.Done():
		return kmclient.Canceled(ctx)
	case <-db.quit:
		return db.closedError()
	}
}
