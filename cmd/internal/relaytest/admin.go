package relaytest

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
)

// Admin runs a command with --admin and returns the URL where it serves
// administrators, and its log so far.
func Admin(t testing.TB, cmd *cobra.Command, args ...string) (url, log string) {
	t.Helper()
	cmd.SetArgs(args)
	r, w := io.Pipe()
	cmd.SetErr(w)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- cmd.ExecuteContext(ctx)
		_ = w.Close()
	}()
	found := make(chan [2]string, 1)
	go func() {
		var all strings.Builder
		url := ""
		for lines := bufio.NewScanner(r); lines.Scan(); {
			all.WriteString(lines.Text() + "\n")
			if m := regexp.MustCompile(`for administrators" url=(\S+)`).FindStringSubmatch(lines.Text()); m != nil {
				url = m[1]
			} else if url != "" { // the next line, which may be a warning
				select {
				case found <- [2]string{url, all.String()}:
				default:
				}
			}
		}
	}()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("the command ended with %v", err)
		}
	})
	select {
	case f := <-found:
		return f[0], f[1]
	case <-time.After(20 * time.Second):
		t.Fatal("nothing is served to administrators")
		return "", ""
	}
}

// Get returns what is at a URL.
func Get(t testing.TB, url string) (code int, text string) {
	t.Helper()
	a, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Body.Close()
	b, err := io.ReadAll(a.Body)
	if err != nil {
		t.Fatal(err)
	}
	return a.StatusCode, string(b)
}
