package sqlite

import (
	"context"
	"database/sql"
	"errors"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// maxBatch is how many callers share one commit at most.
const maxBatch = 128

// A conn is a connection and the statements that it has prepared. It belongs
// to one goroutine at a time. Its statements run under no context, since each
// is short and none is to be left half done.
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

// A job waits for its turn with the writer.
type job struct {
	do    func(*conn) error
	alone bool  // outside of a transaction
	own   error // what do returned, having changed nothing
	err   error // of the transaction
	done  chan struct{}
}

// write has the writer do something and returns once that is on disk. The
// caller's context ends the wait for the writer, but not what has begun, so
// that there is seldom a doubt about what has happened.
func (s *Store) write(ctx context.Context, j *job) error {
	if ctx.Err() != nil { // select would choose at random
		return waitError(ctx)
	}
	j.done = make(chan struct{})
	select {
	case <-s.quit:
		return errClosed
	default:
	}
	select {
	case s.jobs <- j:
		<-j.done
		return errors.Join(j.own, j.err)
	case <-ctx.Done():
		return waitError(ctx)
	case <-s.quit:
		return errClosed
	}
}

// run is the writer: it commits together what has come in while it was busy
// with the last commit.
func (s *Store) run() {
	defer close(s.done)
	for {
		select {
		case j := <-s.jobs:
			s.serve(j)
		case <-s.quit:
			return
		}
	}
}

// serve does a job, and those that are waiting as well.
func (s *Store) serve(first *job) {
	var batch, alone []*job
	add := func(j *job) {
		if j.alone {
			alone = append(alone, j)
		} else {
			batch = append(batch, j)
		}
	}
	add(first)
gather:
	for len(batch)+len(alone) < maxBatch {
		select {
		case j := <-s.jobs:
			add(j)
		default:
			break gather
		}
	}
	if len(batch) > 0 {
		s.commits.Add(1)
		s.writer.commit(batch)
	}
	for _, j := range alone {
		j.err = j.do(s.writer)
		close(j.done)
	}
}

// commit does jobs in one transaction. One that is refused changes nothing, and
// the others go on; an error of the file is everybody's.
func (c *conn) commit(batch []*job) {
	err := c.exec("BEGIN IMMEDIATE")
	for _, j := range batch {
		if err == nil {
			j.own = j.do(c)
			if isSQL(j.own) {
				err, j.own = j.own, nil
			}
		}
	}
	if err == nil {
		err = c.exec("COMMIT")
	}
	if err != nil {
		_ = c.exec("ROLLBACK") // SQLite may have done so already
	}
	for _, j := range batch {
		if err != nil {
			j.own, j.err = nil, err // what it saw was not committed
		}
		close(j.done)
	}
}

func isSQL(err error) bool {
	_, ok := errors.AsType[*sqlite.Error](err)
	return ok
}

func isBusy(err error) bool {
	e, ok := errors.AsType[*sqlite.Error](err)
	return ok && e.Code()&0xFF == sqlite3.SQLITE_BUSY
}

// read calls look with a connection for reading.
func (s *Store) read(ctx context.Context, look func(*conn) error) error {
	if ctx.Err() != nil {
		return waitError(ctx)
	}
	select {
	case <-s.quit:
		return errClosed
	default:
	}
	select {
	case c := <-s.readers:
		defer func() { s.readers <- c }()
		return look(c)
	case <-ctx.Done():
		return waitError(ctx)
	case <-s.quit:
		return errClosed
	}
}
