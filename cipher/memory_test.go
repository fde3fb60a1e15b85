package cipher_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"testing"

	"github.com/qkdmail/qkdmail/cipher"
)

const (
	bigMessage  = 1 << 30  // bytes
	mostMemory  = 32 << 10 // KiB resident
	memoryChild = "QKDMAIL_MEMORY_TEST"
)

// TestMemory encrypts and decrypts 1 GiB at the same time in a child process, and
// reads its peak memory from the kernel.
func TestMemory(t *testing.T) {
	if os.Getenv(memoryChild) != "" {
		memoryTest(t, cipher.Suite(os.Getenv(memoryChild)))
		return
	}
	if testing.Short() {
		t.Skip("SKIPPED: takes long, and this is -short")
	}
	if raceEnabled {
		t.Skip("the race detector takes its own memory: run without -race")
	}
	if _, err := os.Stat("/proc/self/status"); err != nil {
		t.Skip("no /proc: peak memory can't be read here")
	}
	for _, suite := range suites {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestMemory$", "-test.v")
		cmd.Env = append(os.Environ(), memoryChild+"="+string(suite))
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", suite, err, out)
		}
		m := regexp.MustCompile(`peak (\d+) KiB`).FindSubmatch(out)
		if m == nil {
			t.Fatalf("%s: no figure in\n%s", suite, out)
		}
		peak, err := strconv.Atoi(string(m[1]))
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %d KiB at most for a message of %d bytes, encrypted and decrypted at once", suite, peak, bigMessage)
		if peak > mostMemory {
			t.Errorf("%s: %d KiB of memory, want at most %d", suite, peak, mostMemory)
		}
	}
}

// memoryTest is what the child process does.
func memoryTest(t *testing.T, suite cipher.Suite) {
	pr, pw := io.Pipe()
	go func() {
		pw.CloseWithError(encryptBig(t.Context(), pw, suite))
	}()
	r, err := cipher.Decrypt(t.Context(), pr, newDerivedKM(), unbound())
	if err != nil {
		t.Fatal(err)
	}
	restored, original := sha256.New(), sha256.New()
	n, err := io.Copy(restored, r)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(original, bigReader()); err != nil {
		t.Fatal(err)
	}
	if n != bigMessage || !bytes.Equal(restored.Sum(nil), original.Sum(nil)) {
		t.Fatalf("%d bytes came back, or different ones", n)
	}
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindSubmatch(status)
	fmt.Printf("peak %s KiB\n", m[1])
}

func encryptBig(ctx context.Context, dst io.Writer, suite cipher.Suite) error {
	w, err := cipher.Encrypt(ctx, dst, newDerivedKM(), forSuite(&cipher.EncryptOptions{Suite: suite}))
	if err != nil {
		return err
	}
	if _, err := io.Copy(w, bigReader()); err != nil {
		w.Abort()
		return err
	}
	return w.Close()
}

// bigReader returns a reader of a message that is never in memory as a whole.
func bigReader() io.Reader {
	const header = "From: a@example.org\nSubject: big\n\n"
	return io.LimitReader(io.MultiReader(bytes.NewReader([]byte(header)), &lines{}), bigMessage)
}

// lines reads as endless lines that all differ. It leaves no garbage, which would count
// as the cipher's memory.
type lines struct {
	n    int64
	text []byte
	rest []byte
}

const lineFiller = "a line of a message that is as long as lines of mail are: "

func (l *lines) Read(p []byte) (n int, err error) {
	for n < len(p) {
		if len(l.rest) == 0 {
			l.n++
			l.text = strconv.AppendInt(append(l.text[:0], lineFiller...), l.n, 10)
			l.text = append(l.text, '\n')
			l.rest = l.text
		}
		c := copy(p[n:], l.rest)
		l.rest, n = l.rest[c:], n+c
	}
	return n, nil
}
