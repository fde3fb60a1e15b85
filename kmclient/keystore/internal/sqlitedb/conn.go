package sqlitedb

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"zombiezen.com/go/sqlite"
)

// ErrNoRow: a statement whose answer should be one row found none.
var ErrNoRow = errors.New("no row")

// A Conn is a connection with its prepared statements, whose texts are few and
// constant. It belongs to one goroutine at a time, and to a function of [DB.Write] or
// [DB.Read] only until that returns.
//
// Statements run without a context: each is short, and none may be left half done.
// Arguments are int, int64, string, []byte or nil. Columns are read into *int, *int64,
// *string, *[]byte, or *any, which becomes int64, string, []byte or nil.
type Conn struct{ conn *sqlite.Conn }

// connect opens a connection to a file. It waits this long for locks.
func connect(name string, flags sqlite.OpenFlags, wait time.Duration) (*Conn, error) {
	conn, err := sqlite.OpenConn(name, flags)
	if err != nil {
		return nil, engineError(err)
	}
	c := &Conn{conn}
	c.patience(wait)
	return c, nil
}

// patience sets how long the connection waits for a lock.
func (c *Conn) patience(d time.Duration) { c.conn.SetBusyTimeout(d) }

func (c *Conn) close() error { return engineError(c.conn.Close()) }

// Exec runs a statement and ignores its answer.
func (c *Conn) Exec(text string, args ...any) error {
	s, err := c.begin(text, args)
	for row := true; row && err == nil; {
		row, err = step(s)
	}
	return err
}

// Change runs an INSERT, UPDATE or DELETE, and returns how many rows it changed.
func (c *Conn) Change(text string, args ...any) (rows int, err error) {
	if err := c.Exec(text, args...); err != nil {
		return 0, err
	}
	return c.conn.Changes(), nil
}

// Row runs a statement whose answer is one row. If there is no row, the error is
// ErrNoRow.
func (c *Conn) Row(into []any, text string, args ...any) error {
	s, err := c.begin(text, args)
	if err != nil {
		return err
	}
	row, err := step(s)
	switch {
	case err != nil:
		return err
	case !row:
		return ErrNoRow
	}
	return errors.Join(scan(s, into), engineError(s.Reset()))
}

// Scan reads a row. If a column does not fit its variable, the error is ErrDamaged.
type Scan func(into ...any) error

// Rows runs a statement and calls each for every row of its answer.
func (c *Conn) Rows(each func(Scan) error, text string, args ...any) error {
	s, err := c.begin(text, args)
	if err != nil {
		return err
	}
	read := func(into ...any) error { return scan(s, into) }
	for {
		if row, err := step(s); err != nil || !row {
			return err
		}
		if err := each(read); err != nil {
			return errors.Join(err, engineError(s.Reset()))
		}
	}
}

// script runs several statements.
func (c *Conn) script(text string) error {
	for {
		if text = strings.Trim(text, "; \n"); text == "" {
			return nil
		}
		s, left, err := c.conn.PrepareTransient(text)
		if err != nil {
			return engineError(err)
		}
		for row := true; row && err == nil; {
			row, err = step(s)
		}
		if err = errors.Join(err, engineError(s.Finalize())); err != nil {
			return err
		}
		text = text[len(text)-left:]
	}
}

// begin returns a statement with its arguments, before its first step.
func (c *Conn) begin(text string, args []any) (*sqlite.Stmt, error) {
	s, err := c.conn.Prepare(text)
	if err != nil {
		return nil, engineError(err)
	}
	if n := s.BindParamCount(); n != len(args) {
		return nil, fmt.Errorf("%d arguments, want %d: %s", len(args), n, text)
	}
	for i, arg := range args {
		switch a := arg.(type) {
		case int:
			s.BindInt64(i+1, int64(a))
		case int64:
			s.BindInt64(i+1, a)
		case string:
			s.BindText(i+1, a)
		case []byte:
			s.BindBytes(i+1, a)
		case nil:
			s.BindNull(i + 1)
		default:
			return nil, fmt.Errorf("an argument of type %T: %s", arg, text)
		}
	}
	return s, nil
}

func step(s *sqlite.Stmt) (row bool, err error) {
	row, err = s.Step()
	return row, engineError(err)
}

// scan reads a row into variables.
func scan(s *sqlite.Stmt, into []any) error {
	if n := s.ColumnCount(); n != len(into) {
		return fmt.Errorf("%d variables for %d columns", len(into), n)
	}
	for i, v := range into {
		if !scanColumn(s, i, v) {
			return fmt.Errorf("%w: a %v in column %d, which is not a %T", ErrDamaged, s.ColumnType(i), i, v)
		}
	}
	return nil
}

// scanColumn reads one column, if it has the type of the variable.
func scanColumn(s *sqlite.Stmt, i int, into any) bool {
	is := s.ColumnType(i)
	switch v := into.(type) {
	case *int:
		*v = s.ColumnInt(i)
		return is == sqlite.TypeInteger && int64(*v) == s.ColumnInt64(i)
	case *int64:
		*v = s.ColumnInt64(i)
		return is == sqlite.TypeInteger
	case *string:
		*v = s.ColumnText(i)
		return is == sqlite.TypeText
	case *[]byte:
		*v = columnBytes(s, i)
		return is == sqlite.TypeBlob
	case *any:
		switch is {
		case sqlite.TypeInteger:
			*v = s.ColumnInt64(i)
		case sqlite.TypeText:
			*v = s.ColumnText(i)
		case sqlite.TypeBlob:
			*v = columnBytes(s, i)
		default:
			*v = nil
		}
		return is != sqlite.TypeFloat
	}
	return false
}

func columnBytes(s *sqlite.Stmt, i int) []byte {
	b := make([]byte, s.ColumnLen(i))
	s.ColumnBytes(i, b)
	return b
}
