package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// A contender encrypts and decrypts a file to its standard output.
type contender struct {
	name    string
	encrypt func(file string) []string
	decrypt func(file string) []string
	most    int          // octets of the longest message that makes sense; 0: any
	prepare func() error // before each message; may be nil
}

// The names of those that others are compared with.
const (
	nameCopy    = "cat (a copy)"
	nameOpenSSL = "openssl cms"
	nameAge     = "age"
	nameGPG     = "gpg"
	nameAES     = "qkdmail, AES-256-GCM"
	nameOTP     = "qkdmail, OTP"
	nameOTPREST = "qkdmail, OTP, REST"
)

// errMissing: a program is not installed.
var errMissing = errors.New("not installed")

// contenders are all that can run here. What can't is told in the report.
func (b *bench) contenders(ctx context.Context) ([]*contender, error) {
	all := []*contender{{name: nameCopy, encrypt: command("cat"), decrypt: command("cat")}}
	for _, c := range []struct {
		name  string
		setup func(context.Context) (*contender, error)
	}{
		{nameOpenSSL, b.openSSL}, {nameAge, b.age}, {nameGPG, b.gpg},
	} {
		made, err := c.setup(ctx)
		if errors.Is(err, errMissing) {
			b.skip("%s: %v", c.name, err)
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", c.name, err)
		}
		made.name = c.name
		all = append(all, made)
	}
	otp, err := b.otpREST(ctx)
	if err != nil {
		return nil, err
	}
	return append(all, b.qkdmail(nameAES, 0), b.qkdmail(nameOTP, mega, "--suite", "otp"), otp), nil
}

// command returns a command line with a file at its end.
func command(argv ...string) func(string) []string {
	return func(file string) []string { return append(argv[:len(argv):len(argv)], file) }
}

// need is an error unless the program is there; its version goes into the report.
func (b *bench) need(ctx context.Context, program, versionFlag string) error {
	if _, err := exec.LookPath(program); err != nil {
		return fmt.Errorf("%w: %s", errMissing, program)
	}
	version, err := output(ctx, program, versionFlag)
	if err != nil {
		return err
	}
	first, _, _ := strings.Cut(version, "\n")
	b.machine = append(b.machine, [2]string{program, first})
	return nil
}

// openSSL encrypts to the certificate of an elliptic curve, which is fast.
// Without -binary it would change the ends of lines.
func (b *bench) openSSL(ctx context.Context) (*contender, error) {
	if err := b.need(ctx, "openssl", "version"); err != nil {
		return nil, err
	}
	cert, key := filepath.Join(b.dir, "cms.crt"), filepath.Join(b.dir, "cms.key")
	if _, err := output(ctx, "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
		"-keyout", key, "-out", cert, "-days", "2", "-subj", "/CN=bench"); err != nil {
		return nil, err
	}
	return &contender{
		encrypt: func(file string) []string {
			return []string{"openssl", "cms", "-encrypt", "-aes-256-gcm", "-stream", "-binary", "-in", file, cert}
		},
		decrypt: command("openssl", "cms", "-decrypt", "-binary", "-recip", cert, "-inkey", key, "-in"),
	}, nil
}

func (b *bench) age(ctx context.Context) (*contender, error) {
	if err := b.need(ctx, "age", "--version"); err != nil {
		return nil, err
	}
	b.machine[len(b.machine)-1][1] = "age " + b.machine[len(b.machine)-1][1]
	key := filepath.Join(b.dir, "age.key")
	if err := runCommand(exec.CommandContext(ctx, "age-keygen", "-o", key)); err != nil {
		return nil, err
	}
	recipient, err := output(ctx, "age-keygen", "-y", key)
	if err != nil {
		return nil, err
	}
	return &contender{
		encrypt: command("age", "-a", "-r", strings.TrimSpace(recipient)),
		decrypt: command("age", "-d", "-i", key),
	}, nil
}

// gpg has a home of its own, and an agent that ends with it.
func (b *bench) gpg(ctx context.Context) (*contender, error) {
	if err := b.need(ctx, "gpg", "--version"); err != nil {
		return nil, err
	}
	home := filepath.Join(b.dir, "gpg")
	if err := os.Mkdir(home, 0o700); err != nil {
		return nil, err
	}
	gpg := []string{"gpg", "--homedir", home, "--batch", "--quiet", "--no-tty"}
	b.cleanup = append(b.cleanup, func() {
		_ = exec.Command("gpgconf", "--homedir", home, "--kill", "all").Run() // there may be none
	})
	if _, err := output(ctx, append(gpg, "--passphrase", "", "--quick-generate-key", "bench@b.example", "future-default", "default", "never")...); err != nil {
		return nil, err
	}
	return &contender{
		encrypt: command(append(gpg[:len(gpg):len(gpg)], "--trust-model", "always", "--compress-algo", "none", "--armor",
			"--output", "-", "--recipient", "bench@b.example", "--encrypt")...),
		decrypt: command(append(gpg[:len(gpg):len(gpg)], "--decrypt")...),
	}, nil
}

// qkdmail has its keys from the mock, whose file begins anew with each message:
// it would grow, and with it the time to write it.
func (b *bench) qkdmail(name string, most int, encryptFlags ...string) *contender {
	keys := filepath.Join(b.dir, "keys.json")
	program := b.program()
	return &contender{
		name: name, most: most,
		encrypt: command(append([]string{program, "encrypt", "--km", "mock:" + keys}, encryptFlags...)...),
		decrypt: command(program, "decrypt", "--km", "mock:"+keys),
		prepare: func() error { return os.RemoveAll(keys) },
	}
}

// otpREST has its keys from a key manager in a process of its own, in memory.
func (b *bench) otpREST(ctx context.Context) (*contender, error) {
	url, err := b.keyManager(ctx)
	if err != nil {
		return nil, err
	}
	program := b.program()
	return &contender{
		name: nameOTPREST, most: 25 * mega,
		encrypt: command(program, "encrypt", "--suite", "otp", "--km", url),
		decrypt: command(program, "decrypt", "--km", url),
	}, nil
}

// keyManager starts a simulated key manager and returns its URL.
func (b *bench) keyManager(ctx context.Context, flags ...string) (url string, err error) {
	argv := append([]string{b.program(), "km", "serve", "--api", "qmail", "--quiet", "--listen", "127.0.0.1:0"}, flags...)
	return b.services.start(ctx, `at (http://\S+)`, argv...)
}

// skip notes what is not measured.
func (b *bench) skip(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	fmt.Fprintln(os.Stderr, "SKIPPED:", text)
	b.skipped = append(b.skipped, text)
}
