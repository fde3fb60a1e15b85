package cli

import (
	"io"
	"log/slog"
	"os"
	"strings"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keydb"
	"github.com/spf13/cobra"
)

// withManager opens the key manager that the flags or the environment name,
// and closes it when do is done.
func (g *Globals) withManager(cmd *cobra.Command, do func(kmclient.KeyManager) error) error {
	km, err := g.OpenManager(cmd)
	if err != nil {
		return err
	}
	if c, ok := km.(io.Closer); ok {
		defer c.Close()
	}
	return do(km)
}

// OpenManager opens the key manager that the flags or the environment name. If
// it is an io.Closer the caller closes it.
func (g *Globals) OpenManager(cmd *cobra.Command) (kmclient.KeyManager, error) {
	spec := g.Spec()
	if strings.HasPrefix(spec, "etsi014:") && (g.SAE == "" || g.Peer == "") {
		return nil, Fail(ExitConfig, "give both; a KME hands keys out for a pair of SAEs", "etsi014 needs --sae and --peer")
	}
	opts := kmclient.Options{
		CAFile: g.KMCA, CertFile: g.KMCert, KeyFile: g.KMKey, KMEID: g.KMEID, SAE: g.SAE,
		Logger: Warnings(cmd),
		MockDB: func(path string) (kmclient.KeyManager, error) { return keydb.NewMock(cmd.Context(), path) },
	}
	if spec != "" {
		return kmclient.Open(spec, opts)
	}
	return kmclient.FromEnv(chooserEnv, opts)
}

// Spec is what names the key manager, "" where the other variables do.
func (g *Globals) Spec() string {
	if g.KM != "" {
		return g.KM
	}
	return os.Getenv("QKD_KM")
}

// chooserEnv is the part of the environment that chooses a key manager. The
// rest is in the flags already, which come before it.
func chooserEnv(name string) string {
	switch name {
	case "QKD_USE_MOCK", "QKD_KM_HOST", "QKD_KM_PORT", "QKD_KM_HTTPS":
		return os.Getenv(name)
	}
	return ""
}

// Warnings logs to standard error what a user should know.
func Warnings(cmd *cobra.Command) *slog.Logger {
	return slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: slog.LevelWarn}))
}
