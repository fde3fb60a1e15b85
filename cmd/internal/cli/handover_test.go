package cli

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// What came with a signal before the other program is there must not be lost: that
// one would run on.
func TestHandOverAfterSignal(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, daemonProgram), []byte("#!/bin/sh\nexit 1\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := handOver(ctx, func() {}, []string{"relay"})
	if code, _ := explain(err); !errors.Is(err, context.Canceled) || code != ExitTempFail {
		t.Errorf("%v (exit code %d), want context.Canceled (%d)", err, code, ExitTempFail)
	}
}
