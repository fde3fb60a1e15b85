package flags

import (
	"fmt"
	"testing"

	"github.com/qkdmail/qkdmail/cmd/internal/terminal"
	"github.com/qkdmail/qkdmail/kmclient"
)

// TestStoreThatIsBusy: a busy store gives exit code 75. systemd restarts a relay
// that exits with 75, but not one that exits with 78.
func TestStoreThatIsBusy(t *testing.T) {
	for _, tt := range []struct {
		name string
		err  error
		want int
	}{
		{"locked, or on a full disk", fmt.Errorf("%w: locked: %w", kmclient.ErrStore, kmclient.ErrStoreBusy), terminal.ExitTempFail},
		{"damaged", fmt.Errorf("%w: damaged", kmclient.ErrStore), terminal.ExitConfig},
	} {
		for _, err := range []error{tt.err, advised(tt.err)} {
			if code, _ := terminal.Explain(err); code != tt.want {
				t.Errorf("a store that is %s: exit code %d, want %d (%v)", tt.name, code, tt.want, err)
			}
		}
	}
}
