package messagecmd

import (
	"context"
	"fmt"
	"io"
	"net/mail"

	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/cmd/internal/flags"
	"github.com/qkdmail/qkdmail/cmd/internal/terminal"
	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/spf13/cobra"
)

func newEncrypt(g *flags.Globals) *cobra.Command {
	var (
		b        batch
		suite    string
		padLimit int
		headers  string
		note     string
		from     string
		utf8     bool
		store    flags.Store
	)
	cmd := &cobra.Command{
		Use:   "encrypt [flags] [FILE…]",
		Short: "Encrypt messages",
		Long: `Encrypt messages. Without FILE, or with -, standard input is read; without -o,
standard output is written. Several files, or a folder with its .eml files, need
--out-dir.

A file is one message, and all of it goes inside, byte for byte. A warning tells of
an mbox file with several messages, of UTF-16 and of odd line ends, if they show in
the first 256 KiB. Outside stand copies of what transport and threading need, as
--headers says; of Bcc never.

Suites: aes-256-gcm takes a key of 256 bits a message. otp is a one-time pad and
takes as much key as message, in as many requests as the key manager's limits
make necessary. auto takes the pad for messages of up to --pad-limit octets, and
AES above, or where the key manager's limits rule a pad out; it does not look at
how many keys are left.

With --store the IDs of the keys are kept for ever, before use, and one that the
key manager hands out again is refused: a key manager that was restored from a
backup would otherwise have a pad used twice. Keys themselves are not kept. An ID
has one use in a store, so decrypt the message with another one.`,
		Example: `  qkdmail encrypt -o secret.eml message.eml
  qkdmail encrypt --suite otp <message.eml >secret.eml
  qkdmail encrypt --out-dir encrypted/ mail/
  qkdmail encrypt --km https://km.example:8443 -o secret.eml message.eml &&
      sendmail -i -- bob@example.net <secret.eml`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if padLimit < 1 {
				return terminal.Usage("--pad-limit %d: must be 1 to %d", padLimit, cipher.MaxPadLimit)
			}
			if _, err := mail.ParseAddress(from); from != "" && err != nil {
				return terminal.Usage("--from %q: %w", from, err)
			}
			opts := cipher.EncryptOptions{PadLimit: padLimit, SAE: g.SAE, Peer: g.Peer, From: from, UTF8: utf8}
			var err error
			if opts.Suite, err = cipher.ParseSuite(suite); err != nil {
				return err
			}
			if opts.Headers, err = cipher.ParseHeaderPolicy(headers); err != nil {
				return err
			}
			if cmd.Flags().Changed("note") {
				opts.Note = &note
			}
			b.done = "encrypted"
			if store.Path == "" {
				store.Path = flags.NoStore
			}
			return g.WithManager(cmd, func(km kmclient.KeyManager) error {
				return g.WithStore(cmd, store, km, func(km kmclient.KeyManager, _ cipher.KeyBinder) error {
					return b.run(cmd, args, encryptStep(km, &opts))
				})
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&suite, "suite", "aes-256-gcm", "aes-256-gcm, otp or auto")
	f.IntVar(&padLimit, "pad-limit", cipher.DefaultPadLimit, "octets of message up to which --suite auto takes the pad")
	f.StringVar(&headers, "headers", string(cipher.HeadersBaseline), "what stands outside: hcp_baseline (no subject), hcp_shy (no names either) or hcp_no_confidentiality")
	f.StringVar(&note, "note", "", "text for whoever sees the message undecrypted; empty for none (default: a note in English)")
	f.StringVar(&from, "from", "", "address for the outer From where the message has none")
	f.BoolVar(&utf8, "smtputf8", false, "leave UTF-8 addresses outside as they are: the message needs SMTPUTF8 then")
	b.flags(cmd)
	store.Register(f, "what keeps the IDs of used keys: an SQLite file, or postgres://USER@HOST/DATABASE (default: nothing does)")
	return cmd
}

// encryptStep encrypts one message.
func encryptStep(km kmclient.KeyManager, opts *cipher.EncryptOptions) step {
	buf := make([]byte, formLimit)
	return func(ctx context.Context, in io.Reader, out *terminal.Output, warn func(string)) error {
		head, in, err := readHead(in, buf)
		if err != nil {
			return err
		}
		form := formOf(head)
		w, err := cipher.Encrypt(ctx, out, km, opts)
		if err != nil {
			return err
		}
		defer w.Abort()
		n, err := w.ReadFrom(in)
		if err != nil {
			return err
		}
		if n == 0 {
			// An empty pipe is a program that failed before this one.
			return terminal.Fail(terminal.ExitData, "check what makes it", "the input is empty and no message")
		}
		if err := w.Close(); err != nil {
			return err
		}
		info := w.Info()
		if info.Bcc {
			warn("it has a Bcc field, which all its recipients will see when they decrypt it: remove it before encryption")
		}
		for _, text := range form.warnings() {
			warn(text)
		}
		if info.NoPad != nil {
			warn(fmt.Sprintf("it is encrypted with AES-256-GCM: %v", info.NoPad))
		}
		if info.NoHeader && !form.utf16 {
			warn("it has no header, so its sender is not known outside")
		}
		return out.Finish(false)
	}
}
