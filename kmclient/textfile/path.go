package textfile

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Path returns the path of the file that a setting names: the setting itself or, for
// credential:NAME, the path of a systemd credential (LoadCredential=NAME:PATH or
// LoadCredentialEncrypted=). If there can be no such credential, the error is
// [fs.ErrNotExist].
func Path(setting string) (string, error) {
	name, isCredential := strings.CutPrefix(setting, "credential:")
	if !isCredential {
		return setting, nil
	}
	dir := os.Getenv("CREDENTIALS_DIRECTORY")
	if dir == "" || name != filepath.Base(name) || name == "." || name == ".." {
		return "", fmt.Errorf("credential %q: %w: it comes from LoadCredential= of a systemd unit", name, fs.ErrNotExist)
	}
	return filepath.Join(dir, name), nil
}
