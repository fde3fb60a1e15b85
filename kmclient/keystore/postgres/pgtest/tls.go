package pgtest

import (
	"os"
	"path/filepath"

	"github.com/qkdmail/qkdmail/kmclient/kmserver"
)

// TLS has the server speak TLS as well, with a certificate for 127.0.0.1 and localhost,
// and returns the file of its CA and that of another one.
func (s *Server) TLS() (ca, foreign string) {
	s.t.Helper()
	dir := s.t.TempDir()
	for _, d := range []string{"own", "foreign"} {
		if _, err := kmserver.WriteCerts(filepath.Join(dir, d), kmserver.CertOptions{KMEs: []string{"db"}}); err != nil {
			s.t.Fatal(err)
		}
	}
	owner, _ := serverAccount()
	for _, name := range []string{"db.crt", "db.key"} { // which nobody else may read
		text, err := os.ReadFile(filepath.Join(dir, "own", name))
		if err == nil {
			err = os.WriteFile(filepath.Join(s.dir, name), text, 0o600)
		}
		if err == nil && owner != nil {
			err = os.Chown(filepath.Join(s.dir, name), owner.uid, owner.gid)
		}
		if err != nil {
			s.t.Fatal(err)
		}
	}
	s.Restart("ssl=on", "ssl_cert_file="+filepath.Join(s.dir, "db.crt"), "ssl_key_file="+filepath.Join(s.dir, "db.key"))
	return filepath.Join(dir, "own", "ca.crt"), filepath.Join(dir, "foreign", "ca.crt")
}
