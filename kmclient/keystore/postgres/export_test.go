package postgres

import (
	"context"
	"testing"
)

// Setting returns a setting of one of s's connections.
func Setting(t *testing.T, s *Engine, name string) (value string) {
	t.Helper()
	err := s.call(t.Context(), repeatable, func(ctx context.Context, c *conn) error {
		return c.QueryRow(ctx, "SELECT current_setting($1)", name).Scan(&value)
	})
	if err != nil {
		t.Fatal(err)
	}
	return value
}

// CheckURL returns an error unless a URL can be a store's.
func CheckURL(url string) error {
	_, err := parse(url)
	return err
}

// ClearText reports whether the connection to a URL may be in clear text.
func ClearText(t *testing.T, url string) bool {
	t.Helper()
	p, err := parse(url)
	if err != nil {
		t.Fatal(err)
	}
	return p.clearText
}

// SchemaOf returns the schema of s.
func SchemaOf(s *Engine) string { return s.schema }
