package mailer

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/pelletier/go-toml/v2"
	"github.com/qkdmail/qkdmail/kmclient/textfile"
)

// ErrConfig: the configuration makes no sense, or can't be read.
var ErrConfig = errors.New("configuration")

// A ConfigError is one thing that is wrong with a configuration. It is an
// ErrConfig.
type ConfigError struct {
	File    string // where it was read; "" if nowhere
	Line    int    // in it, from 1; 0 if unknown
	Key     string // as "km.url" or "listener[0].address"; "" if there is none
	Message string
}

// Error returns one line, FILE:LINE: KEY: MESSAGE.
func (e *ConfigError) Error() string {
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

// Unwrap returns ErrConfig.
func (e *ConfigError) Unwrap() error { return ErrConfig }

// maxConfigSize is how long a configuration can be, in octets.
const maxConfigSize = 1 << 20

// LoadConfig reads the configuration of a relay from a TOML file of at most
// 1 MiB, as [ParseConfig] does. Of the files that it names none is opened; see
// [Config.CheckFiles].
func LoadConfig(path string) (*Config, error) {
	text, err := readBounded(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	return ParseConfig(path, text)
}

// ParseConfig reads the configuration of a relay from TOML text. name is that
// of the file, for messages, and paths in the text are relative to its folder.
//
// It is strict: a key that is unknown, doubled or of the wrong type is an error
// that says where and what was expected. The error joins all that is found,
// each a *[ConfigError]: what is wrong with the text or, if nothing is, what
// [Config.Check] finds.
func ParseConfig(name string, text []byte) (*Config, error) {
	if len(text) > maxConfigSize {
		return nil, &ConfigError{File: name, Message: fmt.Sprintf("longer than %d octets", maxConfigSize)}
	}
	text, err := textfile.Decode(text)
	if err != nil {
		return nil, &ConfigError{File: name, Message: err.Error()}
	}
	var tree map[string]any
	if err := toml.Unmarshal(text, &tree); err != nil {
		return nil, syntaxError(name, err)
	}
	c := DefaultConfig()
	c.file, c.lines = name, keyLines(text)
	if err := decodeConfig(c, tree); err != nil {
		return nil, err
	}
	if err := c.Check(); err != nil {
		return nil, err
	}
	return c, nil
}

// syntaxError is an error of the TOML parser in our words.
func syntaxError(name string, err error) error {
	e := &ConfigError{File: name, Message: shown(strings.TrimPrefix(err.Error(), "toml: "))}
	if at, ok := errors.AsType[*toml.DecodeError](err); ok {
		e.Line, _ = at.Position()
		for _, part := range at.Key() {
			e.Key = subKey(e.Key, part)
		}
	}
	return e
}

// How many findings are collected, and of them told, at most.
const (
	maxCollected = 1000
	maxFindings  = 100
)

// findings collects what is wrong with a configuration.
type findings struct {
	c    *Config
	list []*ConfigError
}

// add notes a finding at a key; its place is that of the nearest table that
// stands in the file.
func (f *findings) add(key, format string, args ...any) {
	if len(f.list) == maxCollected {
		return
	}
	f.list = append(f.list, &ConfigError{
		File: f.c.file, Line: f.c.line(key), Key: key, Message: shown(fmt.Sprintf(format, args...)),
	})
}

// err returns the findings in the order of their lines, nil if there are none.
func (f *findings) err() error {
	slices.SortStableFunc(f.list, func(a, b *ConfigError) int { return cmp.Compare(a.Line, b.Line) })
	var errs []error
	for i, e := range f.list {
		if i == maxFindings {
			errs = append(errs, &ConfigError{File: f.c.file, Message: "and more"})
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

// shown returns text on one line, with what can't be printed escaped.
func shown(text string) string {
	if utf8.ValidString(text) && !strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return text
	}
	quoted := strconv.Quote(text)
	return strings.ReplaceAll(quoted[1:len(quoted)-1], `\"`, `"`)
}
