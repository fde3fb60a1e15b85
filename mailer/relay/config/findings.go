package config

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/qkdmail/qkdmail/mailer"
	"github.com/qkdmail/qkdmail/mailer/internal/readable"
)

// An Error is one thing that is wrong with a configuration. It is a
// mailer.ErrConfig.
type Error struct {
	File    string // that the configuration was read from; ""
	Line    int    // from 1; 0: unknown
	Key     string // such as "km.url" or "listener[0].address"; ""
	Message string
}

// Error returns one line, FILE:LINE: KEY: MESSAGE.
func (e *Error) Error() string {
	var b strings.Builder
	if e.File != "" {
		b.WriteString(e.File)
		if e.Line > 0 {
			fmt.Fprintf(&b, ":%d", e.Line)
		}
		b.WriteString(": ")
	}
	if e.Key != "" {
		b.WriteString(e.Key + ": ")
	}
	return b.String() + e.Message
}

// Unwrap returns mailer.ErrConfig.
func (e *Error) Unwrap() error { return mailer.ErrConfig }

// The most findings that are collected, and the most that are reported.
const (
	maxCollected = 1000
	maxFindings  = 100
)

// findings collects what is wrong with a configuration.
type findings struct {
	c    *Config
	list []*Error
}

// add notes a finding about a key. Its line is that of the key, or of the nearest table
// around it that is in the file.
func (f *findings) add(key, format string, args ...any) {
	if len(f.list) == maxCollected {
		return
	}
	f.list = append(f.list, &Error{
		File: f.c.file, Line: f.c.line(key), Key: key, Message: readable.Line(fmt.Sprintf(format, args...)),
	})
}

// err returns the findings in the order of their lines, nil if there are none.
func (f *findings) err() error {
	slices.SortStableFunc(f.list, func(a, b *Error) int { return cmp.Compare(a.Line, b.Line) })
	var errs []error
	for i, e := range f.list {
		if i == maxFindings {
			errs = append(errs, &Error{File: f.c.file, Message: "and more"})
			break
		}
		errs = append(errs, e)
	}
	return errors.Join(errs...)
}

// line returns the line of a key or of the table around it, 0 if unknown.
func (c *Config) line(key string) int {
	for key != "" {
		if n, ok := c.lines[key]; ok {
			return n
		}
		key = key[:max(strings.LastIndexAny(key, ".["), 0)]
	}
	return 0
}
