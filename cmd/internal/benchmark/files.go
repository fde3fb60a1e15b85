package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/qkdmail/qkdmail/cmd/internal/kmsim"
	"github.com/qkdmail/qkdmail/cmd/internal/smtpkit"
)

// A program encrypts and decrypts files. Its commands run in the private folder
// and write to standard output; IN stands for the file that they read, KM for the
// URL of a key manager.
type program struct {
	name             string
	version          string // command that prints it; "": it needs no installation
	setup, cleanup   string // scripts
	encrypt, decrypt string
	most             int // bytes of the longest message worth measuring; 0: any
}

// Names that the aims mention.
const (
	nameAES     = "qkdmail, AES-256-GCM"
	nameOTP     = "qkdmail, OTP"
	nameHybrid  = "qkdmail, AES-256-GCM+X-WING"
	nameREST    = "qkdmail, OTP, REST"
	nameOpenSSL = "openssl cms"
	nameAge     = "age"
	nameGPG     = "gpg"
	nameCopy    = "cat (a copy)"

	opEncrypt = "encrypt"
	opDecrypt = "decrypt"
)

var operations = []string{opEncrypt, opDecrypt}

const gpg = "gpg --homedir gnupg --batch --quiet --no-tty "

// programs are all contenders; the first is the baseline. OpenSSL gets an
// elliptic-curve certificate, which is fast; without -binary it would change line
// ends.
var programs = []program{
	{name: nameAES, encrypt: "./qkdmail encrypt --km mock:keys.json IN", decrypt: "./qkdmail decrypt --km mock:keys.json IN"},
	{
		name: nameOTP, most: mega,
		encrypt: "./qkdmail encrypt --suite otp --km mock:keys.json IN", decrypt: "./qkdmail decrypt --km mock:keys.json IN",
	},
	{
		name: nameHybrid, setup: "./qkdmail keygen --hybrid -o site.key",
		encrypt: "./qkdmail encrypt --hybrid site.key.pub --km mock:keys.json IN", decrypt: "./qkdmail decrypt --hybrid-key site.key --km mock:keys.json IN",
	},
	{name: nameREST, most: 25 * mega, encrypt: "./qkdmail encrypt --suite otp --km KM IN", decrypt: "./qkdmail decrypt --km KM IN"},
	{
		name: nameOpenSSL, version: "openssl version",
		setup:   "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout cms.key -out cms.crt -days 2 -subj /CN=bench",
		encrypt: "openssl cms -encrypt -aes-256-gcm -stream -binary -in IN cms.crt",
		decrypt: "openssl cms -decrypt -binary -recip cms.crt -inkey cms.key -in IN",
	},
	{
		name: nameAge, version: "age --version", setup: "age-keygen -o age.key; age-keygen -y age.key >age.pub",
		encrypt: "age -a -R age.pub IN", decrypt: "age -d -i age.key IN",
	},
	{
		name: nameGPG, version: "gpg --version | sed 1q",
		setup:   "mkdir -m 700 gnupg; " + gpg + "--passphrase '' --quick-generate-key bench@b.example future-default default never",
		cleanup: "gpgconf --homedir gnupg --kill all",
		encrypt: gpg + "--trust-model always --compress-algo none --armor --output - --recipient bench@b.example --encrypt IN",
		decrypt: gpg + "--decrypt IN",
	},
	{name: nameCopy, encrypt: "cat IN", decrypt: "cat IN"},
}

func (p program) label() string { return p.name }

// prepare makes what the program needs.
func (p program) prepare(ctx context.Context, b *bench) error {
	if p.name == nameREST {
		km, err := kmsim.NewQMail(kmsim.Options{})
		if err != nil {
			return err
		}
		address, err := b.serve(ctx, km, nil)
		b.km = "http://" + address
		return err
	}
	if p.version != "" {
		if err := b.note(ctx, p.name, p.version); err != nil {
			return err
		}
	}
	b.atEnd = append(b.atEnd, func() { _, _ = b.shell(context.Background(), p.cleanup) })
	_, err := b.shell(ctx, p.setup)
	return err
}

// fileSizes returns the sizes of the files, ascending.
func (b *bench) fileSizes() []int {
	if b.quick {
		return []int{10 * kilo, mega}
	}
	return []int{10 * kilo, mega, 25 * mega, 200 * mega}
}

// repeats returns how often a message is measured: short runs vary more.
func (b *bench) repeats(size int) int {
	switch {
	case b.quick || size > 25*mega:
		return b.rounds
	case size > mega:
		return 2 * b.rounds
	case size > 10*kilo:
		return 6 * b.rounds
	}
	return 30 * b.rounds
}

// measureFiles has the programs encrypt files of all sizes and decrypt the
// results, and compares these with the originals.
func (b *bench) measureFiles(ctx context.Context) error {
	all := prepared(ctx, b, programs)
	for _, size := range b.fileSizes() {
		if err := b.writePlain(size); err != nil {
			return err
		}
		some := slices.DeleteFunc(slices.Clone(all), func(p program) bool { return p.most != 0 && size > p.most })
		if err := inTurns(b.repeats(size), some, func(p program, warmUp bool) error { return b.message(ctx, p, size, warmUp) }); err != nil {
			return err
		}
	}
	return nil
}

// writePlain writes a message of this size.
func (b *bench) writePlain(size int) error {
	f, err := os.Create(b.file("plain"))
	if err != nil {
		return err
	}
	return errors.Join(smtpkit.WriteMessage(f, size), f.Close())
}

// message encrypts and decrypts a message, and compares the result. A warm-up run
// measures memory, not time. The mock's file starts empty each time: otherwise it
// would grow with each message, and so would the time to write it.
func (b *bench) message(ctx context.Context, p program, size int, warmUp bool) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	if err := os.RemoveAll(b.file("keys.json")); err != nil {
		return err
	}
	for _, step := range []struct{ op, command, in, out string }{
		{opEncrypt, p.encrypt, "plain", "sealed"}, {opDecrypt, p.decrypt, "sealed", "restored"},
	} {
		measure := b.measure
		if warmUp {
			measure = b.measureMemory
		}
		s, err := measure(ctx, step.out, strings.Fields(strings.NewReplacer("IN", step.in, "KM", b.km).Replace(step.command)))
		if err != nil {
			return err
		}
		b.add(p.name, step.op, size, s)
	}
	_, err := b.shell(ctx, "cmp plain restored")
	return err
}

// measure runs a command whose standard output becomes the file out.
func (b *bench) measure(ctx context.Context, out string, argv []string) (sample, error) {
	if err := os.RemoveAll(b.file(out)); err != nil { // because freeing its memory takes time
		return nil, err
	}
	f, err := os.Create(b.file(out))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	var stderr strings.Builder
	cmd.Dir, cmd.Stdout, cmd.Stderr = b.dir, f, &stderr
	begin := time.Now()
	err = cmd.Run()
	took := time.Since(begin)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, stderr.String())
	}
	return sample{figTime: ms(took), figCPU: us(cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime())}, f.Close()
}

func ms(d time.Duration) float64 { return d.Seconds() * 1e3 }
func us(d time.Duration) float64 { return d.Seconds() * 1e6 }

// measureMemory is measure for the peak memory, which GNU time reports. The
// kernel's figure for a child of ours would include our own memory, which the
// child shares until its exec; GNU time has next to none.
func (b *bench) measureMemory(ctx context.Context, out string, argv []string) (sample, error) {
	if _, err := b.measure(ctx, out, append([]string{"/usr/bin/time", "-f", "%M", "-o", "peak"}, argv...)); err != nil {
		return nil, err
	}
	text, err := os.ReadFile(b.file("peak"))
	if err != nil {
		return nil, err
	}
	kib, err := strconv.ParseFloat(strings.TrimSpace(string(text)), 64)
	return sample{figPeak: kib / 1024}, err
}

// measureCipher runs package cipher's benchmark, which compares whole messages
// with the suites' own ciphers, in memory and on one core.
func (b *bench) measureCipher(ctx context.Context) error {
	benchTime := "2s"
	if b.quick {
		benchTime = "1x"
	}
	out, err := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", "^BenchmarkShare$", "-benchtime", benchTime, "-cpu", "1",
		"github.com/qkdmail/qkdmail/cipher").CombinedOutput()
	if err != nil {
		return fmt.Errorf("go test: %w: %s", err, out)
	}
	b.Shares = parseShares(string(out))
	return nil
}

// parseShares reads lines like "BenchmarkShare/OTP/encrypt 60 36131250 ns/op
// 0.4012 of-poly1305", and returns the last figures by "OTP/encrypt".
func parseShares(text string) map[string]float64 {
	shares := map[string]float64{}
	line := regexp.MustCompile(`(?m)^BenchmarkShare/(\S+/(?:encrypt|decrypt))\S*\s.*?([0-9.]+) of-\S+`)
	for _, m := range line.FindAllStringSubmatch(text, -1) {
		if share, err := strconv.ParseFloat(m[2], 64); err == nil {
			shares[m[1]] = share
		}
	}
	return shares
}
