package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/cmd/internal/relaytest"
)

// TestQuickstart runs the commands of docs/quickstart.md unchanged, except for
// the installation and the ports.
func TestQuickstart(t *testing.T) {
	needsPostfix(t)
	relaytest.Needs(t, "bash", "awk")
	text := strings.Join(commands(t, "quickstart.md", 10)[1:], "")
	a := relaytest.FreePorts(t, 14)
	b := a + 7
	for from, to := range map[string]int{"A=20024 ": a, "B=21024 ": b} {
		if strings.Count(text, from) != 1 {
			t.Fatalf("%q is not in the document", from)
		}
		text = strings.Replace(text, from, fmt.Sprintf("%s%d ", from[:2], to), 1)
	}

	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-e")
	cmd.Stdin = strings.NewReader(text)
	tmp := folder(t)
	// A failure leaves these running.
	relaytest.AtEnd(t, fmt.Sprintf("for d in %s/*/*/postfix; do postfix -c $d stop; done; for p in $(cat %[1]s/*/*.pid %[1]s/*/*/*.pid); do kill -9 $p; done", tmp))
	cmd.Env = append(os.Environ(), "PATH="+filepath.Dir(qkdmail(t))+":"+os.Getenv("PATH"), "TMPDIR="+tmp)
	cmd.WaitDelay = 10 * time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	said := string(out)
	for part, n := range map[string]int{
		"decrypt=pass;":                    2, // the message is shown, and so is the answer
		"suite=OTP+X-WING;":                2,
		"\nQkdmail-Result: mail.a.example": 1,
		"\nSubject: qkdmail test ":         1,
		"WARNING":                          2, // as the page says: Postfix is not running yet
		"/state/keys.db, will be made":     1, // not the system's store
		"empty again":                      2,
		"FAILED":                           0,
		"answers, ":                        3, // the key manager
	} {
		if got := strings.Count(said, part); got != n {
			t.Errorf("the output contains %q %d times, want %d", part, got, n)
		}
	}
	if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
		t.Errorf("the last step leaves %v, %v", left, err)
	}
	if t.Failed() {
		t.Logf("it printed:\n%s", said)
	}
}

// commands returns the n blocks of commands on a page.
func commands(t *testing.T, page string, n int) []string {
	t.Helper()
	var blocks []string
	for _, b := range regexp.MustCompile("(?s)\n```sh\n(.*?)```\n").FindAllStringSubmatch(document(t, page), -1) {
		blocks = append(blocks, b[1])
	}
	if len(blocks) != n {
		t.Fatalf("docs/%s has %d blocks of commands, want %d", page, len(blocks), n)
	}
	return blocks
}
