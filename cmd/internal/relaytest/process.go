package relaytest

import (
	"os/exec"
	"syscall"
	"testing"
)

// AtEnd runs a shell script at the end of the test, even if this process is
// killed: the script waits for a pipe to close.
func AtEnd(t testing.TB, script string) {
	t.Helper()
	cmd := exec.Command("sh", "-c", "read _; { "+script+"; } >/dev/null 2>&1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	pipe, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = pipe.Close()
		_ = cmd.Wait()
	})
}
