package messagecmd

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/mail"
	"os"
	"strings"
	"unicode"

	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/cmd/internal/flags"
	"github.com/qkdmail/qkdmail/cmd/internal/terminal"
	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/textfile"
	"github.com/spf13/cobra"
)

// encryptFlags are the flags of "encrypt".
type encryptFlags struct {
	*flags.Globals
	batch
	suite    string
	padLimit int
	hybrid   string // a file
	to       []string
	headers  string
	note     string
	from     string
	utf8     bool
	store    flags.Store
}

func newEncrypt(g *flags.Globals) *cobra.Command {
	e := &encryptFlags{Globals: g, batch: batch{done: "encrypted"}}
	cmd := &cobra.Command{
		Use:   "encrypt [flags] [FILE…]",
		Short: "Encrypt messages",
		Long: `Encrypt messages. Without FILE, or with -, standard input is read; without -o,
standard output is written. Several files, or a folder of .eml files, need
--out-dir. So does a Maildir folder. With --mbox, each message of an mbox file is
encrypted. If such a run is stopped, the same command continues it
(docs/mailboxes.md).

Otherwise a file is one message, and all of it is encrypted, byte for byte. A warning
reports an mbox file of several messages, UTF-16 and unusual line ends, if they show
in the first 256 KiB. The outer message has copies of the header fields that transport
and threading need (see --headers), but never of Bcc.

Suites: aes-256-gcm takes a key of 256 bits per message. otp is a one-time pad and
takes as much key as message, in as many requests as the key manager's limits
require. auto takes the pad for messages of up to --pad-limit bytes, and AES for
longer ones or if the key manager's limits rule out a pad; it does not look at how
many keys are left. With --hybrid, each of them becomes aes-256-gcm+x-wing or
otp+x-wing: opening the message then takes the recipient's X-Wing private key as well.

With --to, the message is sealed for these recipients: digests of their addresses are
encrypted with it. The other side then refuses to give it to anyone else, so nobody
can get the original by sending a copy to a mailbox of their own there. encrypt sends
no mail.

With --store, the ID of each key is recorded for good before the key is used, and an
ID that the key manager hands out again is refused. Otherwise a key manager restored
from a backup could make us use a pad twice. The keys themselves are not kept. A store
allows each ID one use, so decrypt the message with another store.`,
		Example: `  qkdmail encrypt -o secret.eml message.eml
  qkdmail encrypt --suite otp <message.eml >secret.eml
  qkdmail encrypt --hybrid b.key.pub --suite otp -o secret.eml message.eml
  qkdmail encrypt --to bob@b.example --to carol@b.example -o secret.eml message.eml
  qkdmail encrypt --out-dir encrypted/ mail/
  qkdmail encrypt --mbox -o secret.mbox archive.mbox
  qkdmail encrypt --km https://km.example:8443 -o secret.eml message.eml &&
      sendmail -i -- bob@example.net <secret.eml`,
		RunE:              e.run,
		ValidArgsFunction: flags.FileArgs,
	}
	f := cmd.Flags()
	f.StringVar(&e.suite, "suite", "aes-256-gcm", "aes-256-gcm, otp or auto; with --hybrid also aes-256-gcm+x-wing or otp+x-wing")
	flags.OfferValues(cmd, "suite", suiteNames()...)
	f.StringVar(&e.hybrid, "hybrid", "", "the recipient's X-Wing public key, which makes the suite hybrid: a file, or credential:NAME")
	flags.OfferFiles(cmd, "hybrid", "credential:")
	f.StringArrayVar(&e.to, "to", nil, "seal the message for this recipient, or several separated by commas; may be repeated (default: anyone at the other side)")
	f.IntVar(&e.padLimit, "pad-limit", cipher.DefaultPadLimit, "size in bytes up to which --suite auto uses the pad")
	f.StringVar(&e.headers, "headers", string(cipher.HeadersBaseline), "outer fields: hcp_baseline (no subject), hcp_shy (no names either) or hcp_no_confidentiality")
	flags.OfferValues(cmd, "headers",
		cobra.CompletionWithDesc(string(cipher.HeadersBaseline), "no subject"),
		cobra.CompletionWithDesc(string(cipher.HeadersShy), "no names either"),
		cobra.CompletionWithDesc(string(cipher.HeadersNoConfidentiality), "all fields"))
	f.StringVar(&e.note, "note", "", "text for anyone who sees the message undecrypted; empty for none (default: a note in English)")
	f.StringVar(&e.from, "from", "", "address for the outer From of a message that has none")
	f.BoolVar(&e.utf8, "smtputf8", false, "keep UTF-8 addresses in the outer fields: the message then needs SMTPUTF8")
	e.batch.flags(cmd)
	e.store.Register(cmd, f, "where the IDs of used keys are recorded: an SQLite file, or postgres://USER@HOST/DATABASE (default: none)")
	return cmd
}

// suiteNames returns the values of --suite.
func suiteNames() []string {
	var names []string
	for _, s := range append(cipher.Suites(), cipher.SuiteAuto) {
		names = append(names, strings.ToLower(string(s)))
	}
	return names
}

func (e *encryptFlags) run(cmd *cobra.Command, args []string) error {
	opts, err := e.options(cmd)
	if err != nil {
		return err
	}
	e.store.Path = cmp.Or(e.store.Path, flags.NoStore)
	return e.WithManager(cmd, func(km kmclient.KeyManager) error {
		return e.WithStore(cmd, e.store, km, func(km kmclient.KeyManager, _ cipher.KeyBinder) error {
			do := func(mailbox bool) step { return encryptStep(km, opts, mailbox) }
			return e.batch.run(cmd, args, work{do: do, job: e.job(opts)})
		})
	})
}

// job names the options that a mailbox is encrypted with: a digest, because there are
// addresses among them.
func (e *encryptFlags) job(o *cipher.EncryptOptions) string {
	var key, note string
	if o.Hybrid != nil {
		key = o.Hybrid.Fingerprint().String()
	}
	if o.Note != nil {
		note = "=" + *o.Note
	}
	return digestOf("encrypt", e.mbox, o.Suite, key, o.PadLimit, o.Recipients, o.SAE, o.Peer, o.Headers, note, o.From, o.UTF8)
}

func (e *encryptFlags) options(cmd *cobra.Command) (*cipher.EncryptOptions, error) {
	if e.padLimit < 1 {
		return nil, terminal.Usage("--pad-limit %d: must be 1 to %d", e.padLimit, cipher.MaxPadLimit)
	}
	if e.from != "" {
		a, err := mail.ParseAddress(e.from)
		if err != nil {
			return nil, terminal.Usage("--from %q: %w", e.from, err)
		}
		if !e.utf8 && strings.ContainsFunc(a.Address, func(r rune) bool { return r > unicode.MaxASCII }) {
			return nil, terminal.Usage("--from %q is not ASCII, which needs --smtputf8", e.from)
		}
	}
	opts := &cipher.EncryptOptions{PadLimit: e.padLimit, SAE: e.SAE, Peer: e.Peer, From: e.from, UTF8: e.utf8}
	var err error
	if opts.Suite, err = cipher.ParseSuite(e.suite); err != nil {
		return nil, err
	}
	if opts.Hybrid, err = e.publicKey(cmd); err != nil {
		return nil, err
	}
	if opts.Suite.Hybrid() && opts.Hybrid == nil {
		return nil, terminal.Usage("--suite %s needs the X-Wing public key of the recipient: name its file with --hybrid", e.suite)
	}
	if opts.Recipients, err = parseTo(e.to); err != nil {
		return nil, err
	}
	if opts.Headers, err = cipher.ParseHeaderPolicy(e.headers); err != nil {
		return nil, err
	}
	if cmd.Flags().Changed("note") {
		opts.Note = &e.note
	}
	return opts, nil
}

// publicKey returns the key that --hybrid or the environment names, nil if neither does.
// An empty flag does not mean none: it could be an unset variable of a script.
func (e *encryptFlags) publicKey(cmd *cobra.Command) (*cipher.HybridPublicKey, error) {
	if !cmd.Flags().Changed("hybrid") {
		if e.hybrid = os.Getenv("QKD_HYBRID"); e.hybrid == "" {
			return nil, nil
		}
	}
	return readKeyFile(cmd.Context(), "--hybrid", e.hybrid, textfile.Read, cipher.ParseHybridPublicKey)
}

// encryptStep encrypts one message, in a mailbox or by itself.
func encryptStep(km kmclient.KeyManager, opts *cipher.EncryptOptions, mailbox bool) step {
	buf := make([]byte, formLimit)
	return func(ctx context.Context, in io.Reader, out output, warn, _ func(string)) error {
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
		if n == 0 && !mailbox {
			// An empty pipe comes from a program that failed.
			return terminal.Fail(terminal.ExitData, "check what makes it", "the input is empty")
		}
		if err := w.Close(); err != nil {
			return err
		}
		info := w.Info()
		if info.Bcc {
			warn("it has a Bcc field, which all recipients will see when they decrypt the message: remove it before encryption")
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
