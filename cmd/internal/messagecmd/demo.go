package messagecmd

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/cmd/internal/flags"
	"github.com/qkdmail/qkdmail/cmd/internal/terminal"
	"github.com/qkdmail/qkdmail/kmclient/mock"
	"github.com/spf13/cobra"
)

// demoMessage is the message of a demo without a file.
const demoMessage = `From: Alice <alice@example.org>
To: Bob <bob@example.net>
Date: Mon, 13 Oct 2025 09:56:36 +0200
Message-ID: <20251013075636.1@example.org>
Subject: The merger

Dear Bob,

it is on: we sign on Friday.

-- 
Alice
`

// maxDemo is the largest message that a demo takes: it is held in memory.
const maxDemo = 32 << 20

func newDemo() *cobra.Command {
	var suite string
	cmd := &cobra.Command{
		Use:   "demo [FILE]",
		Short: "Show the whole flow with the embedded mock key manager",
		Long: `Show the whole flow: a message, what crosses the wire, the message restored byte for
byte, and the refusal of a message with one flipped bit. The keys come from the
embedded mock, in a temporary file.`,
		Example: `  qkdmail demo
  qkdmail demo --suite otp message.eml`,
		Args:              flags.AtMost(1),
		ValidArgsFunction: flags.FileArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := cipher.ParseSuite(suite)
			if err != nil {
				return err
			}
			plain := []byte(demoMessage)
			if len(args) == 1 {
				if plain, err = readDemo(cmd.Context(), args[0]); err != nil {
					return err
				}
			}
			return demo(cmd.Context(), cmd.OutOrStdout(), plain, s)
		},
	}
	cmd.Flags().StringVar(&suite, "suite", "aes-256-gcm", "aes-256-gcm, otp or auto")
	flags.OfferValues(cmd, "suite", "aes-256-gcm", "otp", "auto")
	return cmd
}

func readDemo(ctx context.Context, path string) ([]byte, error) {
	in, closeInput, err := terminal.OpenInput(ctx, path)
	if err != nil {
		return nil, err
	}
	defer closeInput()
	plain, err := io.ReadAll(io.LimitReader(in, maxDemo+1))
	if err != nil {
		return nil, terminal.NoInput(err)
	}
	if len(plain) > maxDemo {
		return nil, terminal.Fail(terminal.ExitData, "take a smaller one", "%s is larger than %d bytes", path, maxDemo)
	}
	return plain, nil
}

// demo plays the four scenes.
func demo(ctx context.Context, out io.Writer, plain []byte, suite cipher.Suite) error {
	dir, err := os.MkdirTemp("", "qkdmail-demo-")
	if err != nil {
		return terminal.CantCreate(err)
	}
	defer os.RemoveAll(dir)
	km, err := mock.New(mock.Options{Path: filepath.Join(dir, "keys.json")})
	if err != nil {
		return err
	}

	scene(out, 1, "The message", fmt.Sprintf("%d bytes, SHA-256 %x", len(plain), sha256.Sum256(plain)))
	show(out, plain)

	var wire bytes.Buffer
	w, err := cipher.Encrypt(ctx, &wire, km, &cipher.EncryptOptions{Suite: suite})
	if err != nil {
		return err
	}
	defer w.Abort()
	if _, err := w.Write(plain); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	scene(out, 2, "What crosses the wire", fmt.Sprintf("%d bytes, suite %s, %d key(s) from the mock", wire.Len(), w.Info().Suite, len(w.Info().KeyIDs)))
	show(out, wire.Bytes())

	restored, err := demoDecrypt(ctx, km, wire.Bytes())
	if err != nil {
		return err
	}
	if !bytes.Equal(restored, plain) {
		return terminal.Fail(terminal.ExitData, "this is a bug in qkdmail: please report it", "the restored message is not the original")
	}
	scene(out, 3, "The restored message", fmt.Sprintf("%d bytes, SHA-256 %x: the same, byte for byte", len(restored), sha256.Sum256(restored)))

	_, err = demoDecrypt(ctx, km, FlipPayloadBit(wire.Bytes()))
	if err == nil {
		return terminal.Fail(terminal.ExitData, "this is a bug in qkdmail: please report it", "an altered message was accepted")
	}
	scene(out, 4, "The same with one bit flipped on the wire", "refused: "+terminal.OneLine(err, ""))
	return nil
}

func demoDecrypt(ctx context.Context, km cipher.KeyFinder, wire []byte) ([]byte, error) {
	r, err := cipher.Decrypt(ctx, bytes.NewReader(wire), km, &cipher.DecryptOptions{Binder: cipher.Unbound})
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}

// FlipPayloadBit flips a bit in the middle of the payload. The base64 stays valid, so
// the change is in the payload itself.
func FlipPayloadBit(wire []byte) []byte {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	forged := bytes.Clone(wire)
	start := bytes.LastIndex(forged, []byte("base64"))
	size := bytes.IndexByte(forged[start:], '-') // up to the next delimiter
	for i := start + size/2; ; i++ {
		if n := strings.IndexByte(alphabet, forged[i]); n >= 0 {
			forged[i] = alphabet[n^1]
			return forged
		}
	}
}

func scene(out io.Writer, number int, title, detail string) {
	fmt.Fprintf(out, "── %d. %s ──\n%s\n\n", number, title, detail)
}

// shownLines is how many lines of a message a demo shows.
const shownLines = 36

// show prints the beginning of a message, indented and safe for a terminal.
func show(out io.Writer, message []byte) {
	n := 0
	for line := range bytes.Lines(message) {
		if n++; n > shownLines {
			fmt.Fprintf(out, "    … and %d more bytes\n", len(message))
			break
		}
		message = message[len(line):]
		text := terminal.Printable(string(bytes.TrimRight(line, "\r\n")))
		if r := []rune(text); len(r) > 100 {
			text = string(r[:100]) + "…"
		}
		fmt.Fprintf(out, "    %s\n", text)
	}
	fmt.Fprintln(out)
}
