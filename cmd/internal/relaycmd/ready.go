package relaycmd

import (
	"context"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/qkdmail/qkdmail/cmd/internal/terminal"
	"github.com/qkdmail/qkdmail/mailer/relay/config"
)

// askReady asks the relay that runs with a configuration whether it is ready. A
// container has no other program to do so.
func askReady(ctx context.Context, a *config.Admin) error {
	if a.Address == "" {
		return terminal.Fail(terminal.ExitConfig, "give [admin] an address", "the relay has no address for administrators")
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+a.HostPort()+"/readyz", nil)
	if err != nil {
		return err
	}
	direct := &http.Client{Transport: new(http.Transport)} // no proxy, whatever the environment says
	answer, err := direct.Do(q)
	if err != nil {
		return terminal.Fail(terminal.ExitUnavailable, "check that it runs", "ask the relay: %w", err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, 4<<10))
	if err == nil && answer.StatusCode != http.StatusOK {
		err = terminal.Fail(terminal.ExitUnavailable, "see its log", "the relay is not ready: %s", strings.TrimSpace(string(text)))
	}
	return err
}
