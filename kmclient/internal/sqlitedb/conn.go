package sqlitedb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// A Conn is a connection and the statements that it has prepared: their texts
// are few and constant. It belongs to one goroutine at a time, and to a
// function of [DB.Write] or [DB.Read] only until that returns.
//
// Its statements run under no context: each is short, none is to be left half
// done, and with a connection that was interrupted a database in memory may be
// gone.
type Conn struct {
	sql        *sql.Conn
	statements map[string]*sql.Stmt
}

func (c *Conn) close() (err error) {
	for _, s := range c.statements {
		err = errors.Join(err, s.Close())
	}
	return errors.Join(err, c.sql.Close())
}

func (c *Conn) prepare(text string) (*sql.Stmt, error) {
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

// Exec runs a statement that has no answer.
func (c *Conn) Exec(text string, args ...any) error {
	_, err := c.exec(text, args)
	return err
}

// Change runs an INSERT, UPDATE or DELETE, and returns how many rows it has
// changed.
func (c *Conn) Change(text string, args ...any) (rows int64, err error) {
	result, err := c.exec(text, args)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

func (c *Conn) exec(text string, args []any) (sql.Result, error) {
	s, err := c.prepare(text)
	if err != nil {
		return nil, err
	}
	return s.ExecContext(context.Background(), args...)
}

// Row runs a statement whose answer is one row, sql.ErrNoRows if none.
func (c *Conn) Row(into []any, text string, args ...any) error {
	s, err := c.prepare(text)
	if err != nil {
		return err
	}
	return scanError(s.QueryRowContext(context.Background(), args...).Scan(into...))
}

// Scan reads a row, as sql.Rows.Scan does. What does not fit is an ErrDamaged.
type Scan func(into ...any) error

func scanError(err error) error {
	if err == nil || errors.Is(err, sql.ErrNoRows) || isSQLite(err) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrDamaged, err)
}

// Rows runs a statement and calls each for every row of its answer.
func (c *Conn) Rows(each func(Scan) error, text string, args ...any) error {
	s, err := c.prepare(text)
	if err != nil {
		return err
	}
	rows, err := s.QueryContext(context.Background(), args...)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	scan := func(into ...any) error { return scanError(rows.Scan(into...)) }
	for rows.Next() {
		if err := each(scan); err != nil {
			return err
		}
	}
	return rows.Err()
}
