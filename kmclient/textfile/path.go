package textfile

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Path returns the path of the file that a setting names: the setting itself, or for
// credential:NAME that of a credential of systemd (LoadCredential=NAME:PATH or
// LoadCredentialEncrypted=). Where there can be none, the error is an
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
