package messagecmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/cmd/internal/flags"
	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keystore"
	"github.com/qkdmail/qkdmail/kmclient/textfile"
	"github.com/spf13/cobra"
)

// decryptFlags are the flags of "decrypt".
type decryptFlags struct {
	*flags.Globals
	batch
	closeKeys  bool
	hybridKeys []string // files
	to         []string
	recipients bool
	store      flags.Store
}

func newDecrypt(g *flags.Globals) *cobra.Command {
	d := &decryptFlags{Globals: g, batch: batch{done: "decrypted"}}
	cmd := &cobra.Command{
		Use:   "decrypt [flags] [FILE…]",
		Short: "Decrypt messages",
		Long: `Decrypt messages and restore the originals byte for byte. Without FILE, or with -,
standard input is read; without -o, standard output is written. Several files, or
a folder of .eml files, need --out-dir. So does a Maildir folder. With --mbox, each
message of an mbox file is decrypted. In a Maildir folder or mbox file, a message that
can't be decrypted is copied unchanged and reported. If such a run is stopped, the
same command continues it (docs/mailboxes.md).

Prefer -o: the file appears only after the whole message is verified. Standard
output gets each part of a message as soon as that part is verified. If a later part
has been altered, the beginning has already been written; it is authentic, and the
exit code reports the failure.

If the key manager deletes keys on delivery (ETSI GS QKD 014), each key is put into
a sealed store, --store, before anything is written. If the output can't be written or
is lost, the same command restores the message again. The default store is keys.db in
$STATE_DIRECTORY, $XDG_STATE_HOME/qkdmail, /var/lib/qkdmail (root and the relay's
account) or ~/.local/state/qkdmail; "qkdmail store" looks after it. For root this is
the store of the relay on this machine, and decrypt says so.

A message under a hybrid suite names its X-Wing key by fingerprint ("qkdmail inspect"
shows it). If no --hybrid-key matches, the key manager is not asked for keys.

With --to, a message that is sealed for others is refused (exit code 65). If its
sender named no recipients, it is for anyone, and a warning says so. --recipients
lists the recipients that a message is sealed for on standard error: a digest of each
address, and the address itself if it is in --to or in To, Cc or Bcc of the restored
message.

With --close, the keys are closed in the store and at the key manager once the whole
message is on disk (or written to a pipe). After that it can't be decrypted again.`,
		Example: `  qkdmail decrypt -o message.eml secret.eml
  qkdmail decrypt --close -o message.eml secret.eml
  qkdmail decrypt --hybrid-key site.key --hybrid-key old.key -o message.eml secret.eml
  qkdmail decrypt --to bob@b.example -o message.eml secret.eml
  qkdmail decrypt --store keys.db --km etsi014:https://kme-b.example:8443 \
      --sae SAE_B --peer SAE_A --km-cert sae_b.crt --km-key sae_b.key -o message.eml secret.eml
  qkdmail decrypt --out-dir restored/ encrypted/
  qkdmail decrypt --mbox -o archive.mbox secret.mbox
  qkdmail decrypt <secret.eml >message.eml`,
		ValidArgsFunction: flags.FileArgs,
		RunE:              d.run,
	}
	f := cmd.Flags()
	d.batch.flags(cmd)
	d.store.Register(cmd, f, "where keys are kept: an SQLite file, postgres://USER@HOST/DATABASE, or none (default: a file in the state directory if the key manager deletes keys on delivery, otherwise none)")
	f.StringArrayVar(&d.hybridKeys, "hybrid-key", nil, "our X-Wing private key, for hybrid suites: a file that other users can't read, or credential:NAME; may be repeated")
	flags.OfferFiles(cmd, "hybrid-key", "credential:")
	f.StringArrayVar(&d.to, "to", nil, "refuse a message that is not sealed for this recipient, or for each of several separated by commas; may be repeated")
	f.BoolVar(&d.recipients, "recipients", false, "show the recipients that the message is sealed for")
	f.BoolVar(&d.closeKeys, "close", false, "close the keys once the whole message is written")
	return cmd
}

func (d *decryptFlags) run(cmd *cobra.Command, args []string) error {
	opts := &cipher.DecryptOptions{SAE: d.SAE}
	if d.Peer != "" {
		opts.Peers = []string{d.Peer}
	}
	var err error
	if opts.Hybrid, err = d.privateKeys(cmd); err != nil {
		return err
	}
	to, err := parseTo(d.to)
	if err != nil {
		return err
	}
	return d.WithManager(cmd, func(km kmclient.KeyManager) error {
		return d.WithStore(cmd, d.store, km, func(km kmclient.KeyManager, binder cipher.KeyBinder) error {
			opts.Binder = binder
			return d.batch.run(cmd, args, d.work(km, opts, to))
		})
	})
}

// privateKeys returns the keys that --hybrid-key or the environment names.
func (d *decryptFlags) privateKeys(cmd *cobra.Command) (keys []*cipher.HybridPrivateKey, err error) {
	names := d.hybridKeys
	if name := os.Getenv("QKD_HYBRID_KEY"); name != "" && !cmd.Flags().Changed("hybrid-key") {
		names = []string{name}
	}
	for _, name := range names {
		key, err := readKeyFile(cmd.Context(), "--hybrid-key", name, textfile.ReadSecret, cipher.ParseHybridPrivateKey)
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// restore returns the step that decrypts one message, for these recipients, in a mailbox
// or by itself.
func (d *decryptFlags) restore(km kmclient.KeyManager, opts *cipher.DecryptOptions, to []string, mailbox bool) step {
	return func(ctx context.Context, in io.Reader, out output, warn, tell func(string)) error {
		head, in, err := readHead(in, make([]byte, formStart))
		if err != nil {
			return err
		}
		var others fromLines
		if isFromLine(head) && !mailbox {
			in = io.TeeReader(in, &others)
		}
		r, err := cipher.Decrypt(ctx, in, km, opts)
		if err != nil {
			return notOurs(err, head)
		}
		if suite := r.Info().Suite; len(opts.Hybrid) > 0 && !suite.Hybrid() {
			warn(fmt.Sprintf("its suite %s is not hybrid: whoever knows the key manager's keys can read and forge such messages", suite))
		}
		if err := d.release(r, out, to, warn, tell); err != nil {
			return err
		}
		if isFromLine(head) && !mailbox {
			if _, err := io.Copy(io.Discard, in); err != nil {
				return err
			}
			if others.n > 1 {
				warn("it is an mbox file, and only its first message is decrypted: to decrypt each, use --mbox")
			}
		}
		if err := out.Finish(d.closeKeys); err != nil {
			return err
		}
		if !d.closeKeys {
			return nil
		}
		if km.DeletesOnDelivery() {
			warn("there is no key to close: this key manager deletes keys on delivery")
			return nil
		}
		return closeKeysOf(ctx, km, r.Info(), false)
	}
}

// release writes a message to out, if it may be given to these recipients.
func (d *decryptFlags) release(r *cipher.Reader, out io.Writer, to []string, warn, tell func(string)) error {
	list, err := r.Recipients()
	if err != nil {
		return err
	}
	var head beginning
	dst := out
	if d.recipients {
		dst = io.MultiWriter(out, &head)
	}
	refused := checkTo(list, to)
	if refused == nil {
		if _, err := r.WriteTo(dst); err != nil {
			return err
		}
	}
	if d.recipients {
		for _, line := range sealedFor(list, append(head.recipients(), to...)) {
			tell(line)
		}
	} else if len(list) == 0 && len(to) > 0 {
		warn(anyone)
	}
	return refused
}

// closeKeysOf closes the keys of a message, and goes on after a failure: once the first
// key is closed, the message can't be decrypted again to close the others. A key that
// another program closed in the meantime counts as closed. again means that an earlier
// run may have closed some, which the key manager no longer knows.
func closeKeysOf(ctx context.Context, km kmclient.KeyManager, message *cipher.Info, again bool) error {
	closeKey := km.CloseKey
	if kept, ok := km.(*keystore.Store); ok { // another peer may have a key with the same ID
		closeKey = func(ctx context.Context, id string) error { return kept.CloseKeyFrom(ctx, message.SenderSAE, id) }
	}
	var failed error
	n := 0
	for _, id := range message.KeyIDs {
		err := closeKey(ctx, id)
		if err == nil || errors.Is(err, keystore.ErrClosed) || again && errors.Is(err, kmclient.ErrKeyNotFound) {
			continue
		}
		n++
		if failed == nil {
			failed = err
		}
	}
	if failed != nil {
		return fmt.Errorf("the message is restored, but %d of its %d keys are not closed: %w", n, len(message.KeyIDs), failed)
	}
	return nil
}

// work returns how messages are decrypted, those in mailboxes included.
func (d *decryptFlags) work(km kmclient.KeyManager, opts *cipher.DecryptOptions, to []string) work {
	w := work{
		do:     func(mailbox bool) step { return d.restore(km, opts, to, mailbox) },
		job:    digestOf("decrypt", d.mbox, to),
		passOn: func(ctx context.Context, err error) bool { return d.passOn(ctx, km, err) },
	}
	if d.closeKeys && !km.DeletesOnDelivery() {
		w.settle = func(ctx context.Context, in io.Reader) error {
			info, err := cipher.Inspect(in)
			if err != nil {
				return err
			}
			return closeKeysOf(ctx, km, info, true)
		}
	}
	return w
}

// passOn reports whether an error concerns one message alone. One that nobody can decrypt
// must not hold up the others.
func (d *decryptFlags) passOn(ctx context.Context, km kmclient.KeyManager, err error) bool {
	if errors.Is(err, kmclient.ErrRefused) {
		// Some key managers give this answer for a key that is not for us.
		_, statusErr := km.Status(ctx, d.Peer)
		return statusErr == nil
	}
	for _, of := range []error{
		cipher.ErrNotEncrypted, cipher.ErrDamaged, cipher.ErrVersion, cipher.ErrSuite, cipher.ErrHybridKey, cipher.ErrSAE,
		cipher.ErrWrongKey, cipher.ErrAltered, errNotForThem,
		keystore.ErrClosed, keystore.ErrBound, keystore.ErrClaimed, kmclient.ErrKeyNotFound, kmclient.ErrBadRequest,
	} {
		if errors.Is(err, of) {
			return true
		}
	}
	return false
}
