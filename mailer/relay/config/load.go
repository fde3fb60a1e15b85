package config

import (
	"errors"
	"fmt"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/qkdmail/qkdmail/kmclient/textfile"
	"github.com/qkdmail/qkdmail/mailer"
	"github.com/qkdmail/qkdmail/mailer/internal/readable"
)

// maxSize is the size of the largest configuration, in bytes.
const maxSize = 1 << 20

// Load reads the configuration of a relay from a TOML file of at most 1 MiB, as [Parse]
// does. It opens none of the files that the configuration names: see
// [Config.CheckFiles].
func Load(path string) (*Config, error) {
	text, err := textfile.Read(path, maxSize)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", mailer.ErrConfig, err)
	}
	return Parse(path, text)
}

// Parse reads the configuration of a relay from TOML text. name is the name of the file,
// for error messages; paths in the text are relative to its folder. The error joins
// everything that is wrong with the text or, if nothing is, what [Config.Check] finds,
// each an *[Error].
func Parse(name string, text []byte) (*Config, error) {
	if len(text) > maxSize {
		return nil, &Error{File: name, Message: fmt.Sprintf("longer than %d bytes", maxSize)}
	}
	text, err := textfile.Decode(text)
	if err != nil {
		return nil, &Error{File: name, Message: err.Error()}
	}
	var tree map[string]any
	if err := toml.Unmarshal(text, &tree); err != nil {
		return nil, syntaxError(name, err)
	}
	c := Default()
	c.file, c.lines = name, keyLines(text)
	if err := decode(c, tree); err != nil {
		return nil, err
	}
	if err := c.Check(); err != nil {
		return nil, err
	}
	return c, nil
}

// syntaxError returns an error of the TOML parser as an *Error.
func syntaxError(name string, err error) error {
	e := &Error{File: name, Message: readable.Line(strings.TrimPrefix(err.Error(), "toml: "))}
	if at, ok := errors.AsType[*toml.DecodeError](err); ok {
		e.Line, _ = at.Position()
		for _, part := range at.Key() {
			e.Key = subKey(e.Key, part)
		}
	}
	return e
}
