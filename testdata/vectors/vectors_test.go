package vectors

import (
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// lineForms are the lines that a file may have before the message.
var lineForms = map[string]*regexp.Regexp{
	"comment":    regexp.MustCompile(`^.+$`),
	"expect":     regexp.MustCompile(`^[a-z-]+( [a-z-]+)*$`),
	"released":   regexp.MustCompile(`^[0-9]+ [0-9a-f]{64}$`),
	"asked":      regexp.MustCompile(`^[0-9]+$`),
	"sae":        regexp.MustCompile(`^.+$`),
	"peer":       regexp.MustCompile(`^.+$`),
	"key":        regexp.MustCompile(`^[!-~]{1,255} ([0-9a-f]{2})+$`),
	"hybrid-key": regexp.MustCompile(`^[0-9a-f]{64}$`),
	"recipient":  regexp.MustCompile(`^[^<>]+$`),
}

var errorNames = []string{
	"not-encrypted", "damaged", "version", "suite", "sae", "no-hybrid-key", "wrong-key", "bad-key", "no-key", "altered",
}

// TestFiles: every file is as README.md says.
func TestFiles(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range errorNames {
		if !strings.Contains(string(readme), "| `"+name+"` |") {
			t.Errorf("README.md does not explain %s", name)
		}
	}
	for _, class := range []string{"accept", "reject"} {
		files, err := fs.Glob(Files, class+"/*.txt")
		if err != nil || len(files) < 50 {
			t.Fatalf("%d files in %s, error %v", len(files), class, err)
		}
		for _, file := range files {
			head, message, _ := strings.Cut(readFile(t, file), "\n\n")
			values := map[string]string{}
			for _, line := range strings.Split(head, "\n") {
				name, value, _ := strings.Cut(line, ": ")
				if form := lineForms[name]; form == nil || !form.MatchString(value) {
					t.Errorf("%s: line %q", file, line)
				}
				values[name] = value
			}
			for _, name := range strings.Fields(values["expect"]) {
				if !slices.Contains(errorNames, name) {
					t.Errorf("%s: expects %q, which README.md does not explain", file, name)
				}
			}
			if values["comment"] == "" || values["released"] == "" || values["asked"] == "" || message == "" || (values["expect"] != "") != (class == "reject") {
				t.Errorf("%s: a line is missing, or the message", file)
			}
		}
	}
}

// TestAddresses: the digests are those of docs/format.md, section 11.
func TestAddresses(t *testing.T) {
	lines := strings.Split(strings.TrimSuffix(readFile(t, "addresses.txt"), "\n"), "\n")
	for _, line := range lines {
		f := strings.Split(line, "\t")
		if len(f) != 3 || f[0][0] != '<' || !strings.HasSuffix(f[0], ">") {
			t.Fatalf("line %q", line)
		}
		sum := sha256.Sum256([]byte("qkdmail/1 recipient\x00" + f[1]))
		if got := hex.EncodeToString(sum[:16]); got != f[2] {
			t.Errorf("%s: digest %s, want %s", f[0], got, f[2])
		}
	}
	if len(lines) < 40 {
		t.Errorf("%d addresses", len(lines))
	}
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	text, err := Files.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
