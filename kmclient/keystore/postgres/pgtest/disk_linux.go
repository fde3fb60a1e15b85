package pgtest

import (
	"os"
	"path/filepath"
	"syscall"
)

// SmallDisk makes a tablespace on a small file system, whose size grow changes.
func (s *Server) SmallDisk(name, size string) (grow func(size string)) {
	s.t.Helper()
	dir := filepath.Join(s.dir, name)
	owner, _ := serverAccount()
	if err := os.Mkdir(dir, 0o700); err != nil {
		s.t.Fatal(err)
	}
	if err := syscall.Mount("none", dir, "tmpfs", 0, "size="+size); err != nil {
		s.t.Skip("SKIPPED: a small file system can't be mounted; that needs root: ", err)
	}
	s.t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	if owner != nil {
		if err := os.Chown(dir, owner.uid, owner.gid); err != nil {
			s.t.Fatal(err)
		}
	}
	s.Exec("CREATE TABLESPACE " + name + " LOCATION '" + dir + "'")
	return func(size string) {
		s.t.Helper()
		if err := syscall.Mount("none", dir, "tmpfs", syscall.MS_REMOUNT, "size="+size); err != nil {
			s.t.Fatal(err)
		}
	}
}
