package sqlitedb

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/kmclient"
)

// A bound value is read back as it was, and only into a variable of its type.
func TestScan(t *testing.T) {
	db := openTest(t, testPath(t))
	row := func(arg any, into ...any) error {
		return db.Read(t.Context(), func(c *Conn) error { return c.Row(into, "SELECT ?", arg) })
	}
	for _, arg := range []any{int64(math.MinInt64), "", "a\x00é", []byte{}, []byte{0, 255}, nil} {
		var got any
		if err := row(arg, &got); err != nil || fmt.Sprintf("%T %v", got, got) != fmt.Sprintf("%T %v", arg, arg) {
			t.Errorf("%T %v came back as %T %v, %v", arg, arg, got, got, err)
		}
	}
	var i int
	var n int64
	var s string
	var b []byte
	if err := errors.Join(row(7, &i), row(int64(8), &n), row("t", &s), row([]byte("b"), &b)); err != nil {
		t.Error(err)
	}
	if i != 7 || n != 8 || s != "t" || !bytes.Equal(b, []byte("b")) {
		t.Error(i, n, s, b)
	}
	for _, wrong := range []error{
		row("7", &i), row(nil, &n), row(7, &s), row([]byte("t"), &s), row("b", &b), row(nil, &b),
	} {
		if wantStore(t, wrong, "damaged"); !errors.Is(wrong, ErrDamaged) {
			t.Errorf("got %v, want ErrDamaged", wrong)
		}
	}
	for _, wrong := range []error{row(7), row(7, &i, &n), row(7, &struct{}{}), row(1.5, &i), row(uint(7), &i)} {
		if wrong == nil {
			t.Error("a mistake in the program gives no error")
		}
	}
}

// A statement that was left half read can be run again, and so can one that failed.
func TestStatementAgain(t *testing.T) {
	db := openTest(t, testPath(t))
	for i := range 3 {
		if err := db.put(t.Context(), i, "v"); err != nil {
			t.Fatal(err)
		}
	}
	wantStore(t, db.put(t.Context(), 1, "v"), "UNIQUE")
	if err := db.put(t.Context(), 3, "v"); err != nil {
		t.Error(err)
	}
	err := db.Read(t.Context(), func(c *Conn) error {
		const text = "SELECT id FROM t WHERE id>? ORDER BY id"
		var id int
		for range 2 {
			err := c.Rows(func(scan Scan) error { return errors.Join(scan(&id), errRefused) }, text, 0)
			if !errors.Is(err, errRefused) || id != 1 {
				t.Errorf("got row %d, %v", id, err)
			}
		}
		if err := c.Row([]any{&id}, text, 1); err != nil || id != 2 {
			t.Errorf("got row %d, %v", id, err)
		}
		if err := c.Row([]any{&id}, text, 3); !errors.Is(err, ErrNoRow) {
			t.Errorf("got %v, want ErrNoRow", err)
		}
		var ids []int
		err := c.Rows(func(scan Scan) error { err := scan(&id); ids = append(ids, id); return err }, text, 0)
		if !slices.Equal(ids, []int{1, 2, 3}) {
			t.Errorf("rows %v, want 1 to 3", ids)
		}
		return errors.Join(err, c.Exec(text, 0))
	})
	if err != nil {
		t.Error(err)
	}
	err = db.Write(t.Context(), func(c *Conn) error {
		for _, want := range []int{2, 0} {
			if n, err := c.Change("DELETE FROM t WHERE id>1"); err != nil || n != want {
				t.Errorf("%d rows changed, %v, want %d", n, err, want)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// Readers one after another take the same connection, whose cache is full. Simultaneous
// readers get one each; one too many waits.
func TestReaders(t *testing.T) {
	db := openTest(t, testPath(t))
	var used []*Conn
	var read func(ctx context.Context, most int) error
	read = func(ctx context.Context, most int) error {
		return db.Read(ctx, func(c *Conn) error {
			if used = append(used, c); most == 1 {
				return nil
			}
			return read(ctx, most-1)
		})
	}
	if err := errors.Join(read(t.Context(), 1), read(t.Context(), 1), read(t.Context(), 1)); err != nil {
		t.Fatal(err)
	}
	if used[1] != used[0] || used[2] != used[0] {
		t.Errorf("readers one after another take %v, want one connection", used)
	}
	used = nil
	if err := read(t.Context(), mostReaders); err != nil {
		t.Fatal(err)
	}
	distinct := map[*Conn]bool{}
	for _, c := range used {
		distinct[c] = true
	}
	if len(distinct) != mostReaders {
		t.Errorf("%d connections for %d simultaneous readers", len(distinct), mostReaders)
	}
	soon, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := read(soon, mostReaders+1); !errors.Is(err, kmclient.ErrUnavailable) {
		t.Errorf("got %v from one too many, want ErrUnavailable", err)
	}
	if err := read(t.Context(), mostReaders); err != nil {
		t.Errorf("after one has given up: %v", err)
	}
}
