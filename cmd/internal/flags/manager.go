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

// OpenManager opens the key manager that the flags or the environment name, or
// else the mock, and says so.
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
	return open.KeyManager(spec, open.Options{
		CAFile: g.KMCA, CertFile: g.KMCert, KeyFile: g.KMKey, KMEID: g.KMEID, SAE: g.SAE,
		Logger: terminal.Warnings(cmd),
	})
}

// HowToNameKM says what to do where no key manager is named.
const HowToNameKM = "name one with --km or QKD_KM, as etsi014:https://HOST:PORT, https://HOST:PORT or mock:PATH; QKD_KM_HOST counts with QKD_USE_MOCK=false only"

// Spec is what names the key manager, in the flags or in the environment, as
// open.KeyManager takes it; "" where nothing does.
func (g *Globals) Spec() (string, error) {
	if g.KM != "" {
		return g.KM, nil
	}
	return open.EnvSpec(os.Getenv)
}
