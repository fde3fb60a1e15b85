package messagecmd

import (
	"bytes"
	"fmt"
	"io"

	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/cmd/internal/flags"
	"github.com/qkdmail/qkdmail/cmd/internal/terminal"
	"github.com/qkdmail/qkdmail/kmclient/textfile"
	"github.com/spf13/cobra"
)

// publicSuffix is added to the name of a private key file to name its public
// key.
const publicSuffix = ".pub"

// keygenFlags are the flags of "keygen".
type keygenFlags struct {
	hybrid bool
	public string // a file
	output string
	force  bool
	asJSON bool
}

func newKeygen() *cobra.Command {
	k := &keygenFlags{}
	cmd := &cobra.Command{
		Use:   "keygen {--hybrid -o FILE | --public FILE}",
		Short: "Make an X-Wing key, or show its public key",
		Long: `Make an X-Wing key for hybrid suites. A message encrypted to it takes two things to
open: the key manager's keys and this private key. Whoever knows only one still has to
break the other.

-o FILE gets the private key, readable by its owner only (mode 0600), and FILE.pub the
public key, which senders give to "encrypt --hybrid". Make sure nobody can replace it
on its way to them, or compare fingerprints by telephone. Back up the private key: no
message to this key opens without it. Until its last copy is destroyed, it opens them
all, together with the key manager's keys.

--public FILE prints the public key from a file with either key, and its fingerprint
on standard error.`,
		Example: `  qkdmail keygen --hybrid -o site.key
  qkdmail keygen --public site.key >site.key.pub
  qkdmail keygen --public peer.pub --json | jq -r .fingerprint`,
		Args: flags.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return k.run(cmd) },
	}
	f := cmd.Flags()
	f.BoolVar(&k.hybrid, "hybrid", false, "make a key for hybrid suites: X-Wing, which is ML-KEM-768 with X25519")
	f.StringVar(&k.public, "public", "", "print the public key of this file, or credential:NAME")
	f.StringVarP(&k.output, "output", "o", "", "write the private key to this file, and the public key to FILE"+publicSuffix)
	flags.OfferFiles(cmd, "public", "credential:")
	flags.OfferFiles(cmd, "output")
	f.BoolVar(&k.force, "force", false, "overwrite files; what was encrypted to an overwritten key can no longer be opened")
	f.BoolVar(&k.asJSON, "json", false, "print JSON")
	return cmd
}

func (k *keygenFlags) run(cmd *cobra.Command) error {
	switch public := cmd.Flags().Changed("public"); {
	case k.hybrid == public:
		return terminal.Usage("give --hybrid to make a key for hybrid suites, or --public FILE to see a public key")
	case public && (k.output != "" || k.force):
		return terminal.Usage("--public prints to standard output: -o and --force go with --hybrid")
	case public:
		return k.show(cmd)
	case k.output == "" || k.output == "-":
		return terminal.Usage("-o FILE is missing: a private key goes into a file")
	}
	return k.make(cmd)
}

// made is what "keygen --hybrid --json" prints.
type made struct {
	Fingerprint string `json:"fingerprint"`
	Private     string `json:"private_key_file"`
	Public      string `json:"public_key_file"`
}

// make makes a key and writes it to two files. Neither is made if one can't be.
func (k *keygenFlags) make(cmd *cobra.Command) error {
	defer terminal.UntilHangUp(cmd)()
	private, err := terminal.CreateFile(k.output, 0o600, k.force)
	if err != nil {
		return err
	}
	defer private.Discard()
	public, err := terminal.CreateFile(k.output+publicSuffix, 0o644, k.force)
	if err != nil {
		return err
	}
	defer public.Discard()
	key, err := cipher.GenerateHybridKey()
	if err != nil {
		return err
	}
	if err := writeKey(private, public, key); err != nil {
		return err
	}
	m := made{key.Public().Fingerprint().String(), k.output, k.output + publicSuffix}
	return terminal.Print(cmd.OutOrStdout(), k.asJSON, m, func(out io.Writer) error {
		_, err := fmt.Fprintf(out, "private key  %s: keep it secret, and back it up\npublic key   %s: for senders\nfingerprint  %s\n",
			m.Private, m.Public, m.Fingerprint)
		return err
	})
}

// writeKey completes the two files of a key. They are on disk when it returns.
func writeKey(private, public *terminal.Output, key *cipher.HybridPrivateKey) error {
	secret, err := key.RevealPEM()
	if err != nil {
		return err
	}
	defer clear(secret)
	if _, err := private.Write(secret); err != nil {
		return err
	}
	if _, err := public.Write(key.Public().PEM()); err != nil {
		return err
	}
	if err := private.Finish(true); err != nil {
		return err
	}
	return public.Finish(true)
}

// show prints the public key of a file.
func (k *keygenFlags) show(cmd *cobra.Command) error {
	key, err := readKeyFile(cmd.Context(), "--public", k.public, textfile.Read, parsePublic)
	if err != nil {
		return err
	}
	fingerprint := key.Fingerprint().String()
	v := map[string]string{"fingerprint": fingerprint, "public_key": string(key.PEM())}
	return terminal.Print(cmd.OutOrStdout(), k.asJSON, v, func(out io.Writer) error {
		terminal.Note(cmd)("%s: fingerprint %s", k.public, fingerprint)
		_, err := out.Write(key.PEM())
		return err
	})
}

// parsePublic returns the public key from a text with either key.
func parsePublic(text []byte) (*cipher.HybridPublicKey, error) {
	if bytes.Contains(text, []byte("PUBLIC KEY-----")) {
		return cipher.ParseHybridPublicKey(text)
	}
	key, err := cipher.ParseHybridPrivateKey(text)
	if err != nil {
		return nil, err
	}
	return key.Public(), nil
}
