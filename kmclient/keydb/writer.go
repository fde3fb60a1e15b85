package keydb

import (
	"context"
	"database/sql"
	"errors"
)

// maxBatch is how many changes share one commit at most.
const maxBatch = 128

// A conn is a connection and the statements that it has prepared. It belongs
// to one goroutine at a time.
//
// Its statements run under no context: each is short, and a connection that
// was interrupted may be closed, with which a database in memory is gone.
type conn struct {
	sql        *sql.Conn
	statements map[string]*sql.Stmt
}

func (c *conn) close() (err error) {
	for _, s := range c.statements {
		err = errors.Join(err, s.Close())
	}
	return errors.Join(err, c.sql.Close())
}

func (c *conn) prepare(text string) (*sql.Stmt, error) {
	if s, ok := c.statements[text]; ok {
		return s, nil
	}
	s, err := c.sql.PrepareContext(context.Background(), text)
	if err != nil {
		return nil, err
	}
	c.statements[text] = s
	return s, nil
}

// exec runs a statement that has no answer.
func (c *conn) exec(text string, args ...any) error {
	s, err := c.prepare(text)
	if err != nil {
		return err
	}
	_, err = s.ExecContext(context.Background(), args...)
	return err
}

// row runs a statement whose answer is one row, sql.ErrNoRows if none.
func (c *conn) row(into []any, text string, args ...any) error {
	s, err := c.prepare(text)
	if err != nil {
		return err
	}
	return s.QueryRowContext(context.Background(), args...).Scan(into...)
}

// rows runs a statement and calls each for every row of its answer.
func (c *conn) rows(each func(*sql.Rows) error, text string, args ...any) error {
	s, err := c.prepare(text)
	if err != nil {
		return err
	}
	rows, err := s.QueryContext(context.Background(), args...)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		if err := each(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// A job is a change that waits for its commit.
type job struct {
	do   func(*conn) error
	err  error
	done chan struct{} // closed once err is settled
}

// write makes a change: all of what do does, if it returns no error, and else
// nothing. It returns once that is on disk. The caller's context ends the wait
// for the writer, but not the change once it has begun, so that there is never
// a doubt about what has happened.
func (db *DB) write(ctx context.Context, do func(*conn) error) error {
	if ctx.Err() != nil { // select would choose at random
		return waitError(ctx)
	}
	j := &job{do: do, done: make(chan struct{})}
	select {
	case db.jobs <- j:
		<-j.done
		return db.storeError(j.err)
	case <-ctx.Done():
		return waitError(ctx)
	case <-db.quit:
		return ErrClosed
	}
}

// run is the writer: it commits together what has come in while it was busy
// with the last commit.
func (db *DB) run() {
	defer close(db.done)
	for {
		select {
		case first := <-db.jobs:
			db.commit(db.gather(first))
		case <-db.quit:
			return
		}
	}
}

// gather returns the jobs that are waiting now.
func (db *DB) gather(first *job) []*job {
	batch := []*job{first}
	for len(batch) < maxBatch {
		select {
		case j := <-db.jobs:
			batch = append(batch, j)
		default:
			return batch
		}
	}
	return batch
}

// commit does a batch of jobs in one transaction; one that fails takes back
// only what it did itself.
func (db *DB) commit(batch []*job) {
	c := db.writer
	err := c.exec("BEGIN IMMEDIATE")
	if err == nil {
		for _, j := range batch {
			if err = c.nested(j); err != nil {
				break
			}
		}
		if err == nil {
			err = c.exec("COMMIT")
		}
		if err != nil {
			_ = c.exec("ROLLBACK") // SQLite may have done so already
		}
	}
	for _, j := range batch {
		if j.err == nil {
			j.err = err
		}
		close(j.done)
	}
}

// nested does one job within the transaction of its batch. It returns an error
// if that transaction can't go on.
func (c *conn) nested(j *job) error {
	if err := c.exec("SAVEPOINT job"); err != nil {
		return err
	}
	if j.err = j.do(c); j.err != nil {
		if err := c.exec("ROLLBACK TO job"); err != nil {
			return err
		}
	}
	return c.exec("RELEASE job")
}

// read calls look with a connection that sees one state of the database.
func (db *DB) read(ctx context.Context, look func(*conn) error) error {
	if db.readers == nil {
		return db.write(ctx, look)
	}
	if ctx.Err() != nil {
		return waitError(ctx)
	}
	var c *conn
	select {
	case <-db.quit:
		return ErrClosed
	default:
	}
	select {
	case c = <-db.readers:
	case <-ctx.Done():
		return waitError(ctx)
	case <-db.quit:
		return ErrClosed
	}
	defer func() { db.readers <- c }()
	if err := c.exec("BEGIN"); err != nil {
		return db.storeError(err)
	}
	err := look(c)
	if end := c.exec("ROLLBACK"); err == nil { // nothing was written
		err = end
	}
	return db.storeError(err)
}
