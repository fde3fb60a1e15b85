package flags

import (
	"os"
	"strings"

	"github.com/qkdmail/qkdmail/cmd/internal/terminal"
	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/mock"
	"github.com/qkdmail/qkdmail/kmclient/open"
	"github.com/spf13/cobra"
)

// WithManager calls do with the key manager that the flags or the environment
// name.
func (g *Globals) WithManager(cmd *cobra.Command, do func(kmclient.KeyManager) error) error {
	km, err := g.OpenManager(cmd)
	if err != nil {
		return err
	}
	return do(km)
}

// OpenManager opens the key manager that the flags or the environment name. If they
// name none it opens the mock, and says so.
func (g *Globals) OpenManager(cmd *cobra.Command) (kmclient.KeyManager, error) {
	spec, err := g.Spec()
	if err != nil {
		return nil, err
	}
	if strings.HasPrefix(spec, "etsi014:") && (g.SAE == "" || g.Peer == "") {
		return nil, terminal.Fail(terminal.ExitConfig, "give both; a KME hands keys out for a pair of SAEs", "etsi014 needs --sae and --peer")
	}
	if spec == "" {
		spec = "mock:"
		terminal.Note(cmd)("no key manager is named, so a mock is used, with keys in the file %s: it gives no security (%s)", mock.DefaultPath, HowToNameKM)
	}
	options := open.Options{
		CAFile: g.KMCA, CertFile: g.KMCert, KeyFile: g.KMKey, KMEID: g.KMEID, SAE: g.SAE,
		Logger: terminal.Warnings(cmd),
	}
	// These files may be pipes that stay silent.
	return terminal.Await(cmd.Context(), func() (kmclient.KeyManager, error) { return open.KeyManager(spec, options) })
}

// HowToNameKM is the hint for a command line that names no key manager.
const HowToNameKM = "name one with --km or QKD_KM, as etsi014:https://HOST:PORT, https://HOST:PORT or mock:PATH; QKD_KM_HOST counts only with QKD_USE_MOCK=false"

// Spec returns the name of the key manager from the flags or the environment, as
// [open.KeyManager] takes it. It is "" if neither names one.
func (g *Globals) Spec() (string, error) {
	if g.KM != "" {
		return g.KM, nil
	}
	return open.EnvSpec(os.Getenv)
}
