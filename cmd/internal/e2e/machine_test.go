package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/qkdmail/qkdmail/cmd/internal/relaytest"
)

// packages is where scripts/install-test-tools unpacks mail systems that Debian can't
// install side by side.
const packages = "/usr/local/lib/qkdmail-test"

// A machine is this one with another package installed, which only its own processes
// see. They have their own root folder, layered over this machine's, and end with its
// first process. The network is this machine's.
type machine struct {
	first *exec.Cmd
	files string
}

// enter makes a machine's root folder and runs a command in it.
const enter = `set -e
package=$1 dir=$2 shared=$3; shift 3
mount -t tmpfs tmpfs "$dir"
mkdir "$dir/work" "$dir/root"
cp -a "$package" "$dir/upper"
mount -t overlay overlay -o "lowerdir=/,upperdir=$dir/upper,workdir=$dir/work" "$dir/root"
mkdir -p "$dir/root/$shared"
mount --rbind "$shared" "$dir/root/$shared"
mount --rbind /dev "$dir/root/dev"
mount -t proc proc "$dir/root/proc"
exec chroot "$dir/root" "$@"`

// needsPackage skips the test if a machine with a package can't be made.
func needsPackage(t *testing.T, name string) {
	t.Helper()
	relaytest.Needs(t, "unshare", "nsenter", "chroot", "useradd")
	if _, err := os.Stat(filepath.Join(packages, name)); err != nil {
		t.Skipf("SKIPPED: %s is not unpacked in %s; scripts/install-test-tools does it", name, packages)
	}
	m := &machine{files: folder(t)}
	if out, err := m.command(name, m.files, "true").CombinedOutput(); err != nil {
		t.Skipf("SKIPPED: no overlay in a mount namespace: %v: %s", err, out)
	}
}

// command returns a command that makes the machine and runs a shell script in it.
func (m *machine) command(pkg, shared, script string) *exec.Cmd {
	return exec.Command("unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", enter, "sh",
		filepath.Join(packages, pkg), m.files, shared, "sh", "-c", script)
}

// newMachine starts a machine whose first process is a shell script. It shares a folder
// with this machine.
func newMachine(t *testing.T, pkg, shared, script string) *machine {
	t.Helper()
	m := &machine{files: folder(t)}
	m.first = m.command(pkg, shared, script)
	log, err := os.Create(filepath.Join(shared, "machine.log"))
	if err != nil {
		t.Fatal(err)
	}
	m.first.Stdout, m.first.Stderr = log, log
	relaytest.EndWithTest(m.first)
	if err := m.first.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = m.first.Process.Kill()
		_ = m.first.Wait()
		_ = log.Close()
	})
	return m
}

// run runs a command on the machine.
func (m *machine) run(args ...string) (string, error) {
	pid := m.first.Process.Pid
	child, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return "", err
	}
	args = append([]string{"--target", strings.TrimSpace(string(child)), "--mount", "--pid", "--root", "sh", "-c", `cd / && exec "$@"`, "sh"}, args...)
	out, err := exec.Command("nsenter", args...).Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		err = fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, exit.Stderr)
	}
	return string(out), err
}
