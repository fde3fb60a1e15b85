package site

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/kmclient/textfile"
	"github.com/qkdmail/qkdmail/mailer"
)

// PublicSuffix is added to the name of a private key file to name its public key, as in
// "qkdmail keygen".
const PublicSuffix = ".pub"

// maxKeyFile is the largest size of an X-Wing key file, in bytes.
const maxKeyFile = 64 << 10

// Path returns a path that is relative to the site's folder, as in the configuration.
func (s *Site) Path(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(s.Dir, name)
}

// keyFiles returns the files of this site's X-Wing key that do not exist yet. An
// existing private key is never replaced: what was encrypted to it could no longer be
// opened.
func (s *Site) keyFiles() ([]File, error) {
	if s.HybridKey == "" {
		return nil, nil
	}
	if strings.Contains(s.HybridKey, ":") && !filepath.IsAbs(s.HybridKey) { // relay.toml accepts these
		return nil, fmt.Errorf("%w: our X-Wing key: %q: name a file", mailer.ErrConfig, s.HybridKey)
	}
	var files []File
	key, err := s.privateKey()
	if _, missing := os.Lstat(s.Path(s.HybridKey)); missing != nil && filepath.IsLocal(s.HybridKey) {
		if key, err = cipher.GenerateHybridKey(); err != nil {
			return nil, err
		}
		text, err := key.RevealPEM()
		if err != nil {
			return nil, err
		}
		files = append(files, File{s.HybridKey, text, secretMode()})
	} else if err != nil {
		return nil, fmt.Errorf("%w: our X-Wing key: %w", mailer.ErrConfig, err)
	}
	public := key.Public().PEM()
	if there, err := os.ReadFile(s.Path(s.HybridKey + PublicSuffix)); err != nil || !bytes.Equal(there, public) {
		files = append(files, File{s.HybridKey + PublicSuffix, public, 0o644})
	}
	return files, nil
}

// PublicKey returns the X-Wing key that the other site gets. The private key must
// exist.
func (s *Site) PublicKey() (*cipher.HybridPublicKey, error) {
	key, err := s.privateKey()
	if err != nil {
		return nil, err
	}
	return key.Public(), nil
}

// privateKey reads this site's X-Wing key.
func (s *Site) privateKey() (*cipher.HybridPrivateKey, error) {
	text, err := textfile.ReadSecret(s.Path(s.HybridKey), maxKeyFile)
	if err != nil {
		return nil, err
	}
	defer clear(text)
	key, err := cipher.ParseHybridPrivateKey(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.Path(s.HybridKey), err)
	}
	return key, nil
}

// secretMode is the mode of a private key. The group is the relay's if root makes the
// file, and the user's own otherwise.
func secretMode() fs.FileMode {
	if os.Getuid() == 0 {
		return 0o640
	}
	return 0o600
}
