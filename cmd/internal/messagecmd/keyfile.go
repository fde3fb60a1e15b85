package messagecmd

import (
	"context"
	"strings"

	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/cmd/internal/terminal"
	"github.com/qkdmail/qkdmail/kmclient/textfile"
)

// maxKeyFile is the largest size of an X-Wing key file, in bytes. A public key
// alone takes 1,723.
const maxKeyFile = 64 << 10

// readKeyFile reads the file, or the credential:NAME, that the user gave for what, and
// parses it. No error shows the text. The file may be a pipe that stays silent: reading
// it ends with ctx.
func readKeyFile[K any](ctx context.Context, what, name string, read func(string, int64) ([]byte, error), parse func([]byte) (K, error)) (key K, err error) {
	switch {
	case name == "":
		return key, terminal.Usage("%s is empty: name a file", what)
	case strings.Contains(name, "-----BEGIN"):
		return key, terminal.Usage("%s is the text of a key: name its file", what)
	}
	path, err := textfile.Path(name)
	var text []byte
	if err == nil {
		text, err = terminal.Await(ctx, func() ([]byte, error) { return read(path, maxKeyFile) })
	}
	if err != nil {
		return key, terminal.Fail(terminal.ExitConfig, "check the name and its permissions", "%s: %w", what, err)
	}
	defer clear(text)
	if key, err = parse(text); err != nil {
		why := strings.TrimPrefix(err.Error(), cipher.ErrOptions.Error()+": ")
		return key, terminal.Fail(terminal.ExitConfig, "see qkdmail keygen --help", "%s %s: %s", what, name, why)
	}
	return key, nil
}
