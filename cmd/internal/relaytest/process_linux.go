package relaytest

import (
	"os/exec"
	"syscall"
)

// EndWithTest has a process killed if the test process is killed.
func EndWithTest(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
