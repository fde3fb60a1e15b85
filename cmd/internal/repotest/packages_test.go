package repotest

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/qkdmail/qkdmail"

// root is the folder of the repository.
var root = filepath.Join("..", "..", "..")

// A pkg is what go list says about a package of this module.
type pkg struct {
	ImportPath string
	Dir        string
	GoFiles    []string
	Imports    []string // without tests
	Deps       []string // everything that it imports, directly or indirectly, without tests
}

// path returns the package's place in the repository.
func (p pkg) path() string { return local(p.ImportPath) }

// local returns the place of a package in the repository; other import paths stay
// unchanged.
func local(importPath string) string { return strings.TrimPrefix(importPath, module+"/") }

// packages returns all packages of the module.
func packages(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Dir,GoFiles,Imports,Deps", "./...")
	cmd.Dir = root
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var all []pkg
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	if len(all) < 20 {
		t.Fatalf("go list names only %d packages", len(all))
	}
	return all
}

// TestTable: the table in docs/architecture.md has a row for each package, and no
// others.
func TestTable(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "docs", "architecture.md"))
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]int{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\|").FindAllStringSubmatch(string(text), -1) {
		rows[m[1]]++
	}
	for _, p := range packages(t) {
		if rows[p.path()] != 1 {
			t.Errorf("%s has %d rows in the table, want 1: say what it knows and what it must not know", p.path(), rows[p.path()])
		}
		delete(rows, p.path())
	}
	for name := range rows {
		t.Errorf("the table has a row for %s, which is not a package", name)
	}
}

// A rule says what packages must not import, directly or indirectly. A name stands
// for the package and all those below it; a name that ends with /. stands for the
// package alone.
type rule struct {
	of, not []string
}

var rules = []rule{
	// The trees are stacked: cmd, mailer, cipher, kmclient.
	{of: []string{"kmclient"}, not: []string{"cipher", "mailer", "cmd"}},
	{of: []string{"cipher"}, not: []string{"mailer", "cmd"}},
	{of: []string{"mailer"}, not: []string{"cmd"}},

	// A program that encrypts compiles no server, no SQL and no metrics.
	{of: []string{"cipher", "kmclient/."}, not: []string{"net/http", "database/sql/.", "github.com/emersion/go-smtp"}},
	{of: []string{"cipher", "kmclient/."}, not: []string{"modernc.org", "zombiezen.com", "github.com/jackc", "github.com/prometheus", "github.com/pelletier"}},
	{of: []string{"kmclient/."}, not: protocols},

	// The steps know no configuration, no listeners and no next hops; neither end of
	// SMTP knows what a step does.
	{of: []string{"mailer"}, not: []string{"github.com/prometheus"}},
	{of: []string{"mailer/."}, not: append([]string{"kmclient/open"}, protocols...)},
	{of: []string{"mailer/."}, not: []string{"mailer/relay", "mailer/internal/smtpserver", "mailer/internal/nexthop", "github.com/pelletier"}},
	{of: []string{"mailer/internal/smtpserver", "mailer/internal/nexthop"}, not: []string{"mailer/.", "mailer/relay", "cipher", "kmclient"}},
	{of: []string{"mailer/relay/config"}, not: []string{"mailer/internal/smtpserver", "mailer/internal/nexthop", "kmclient/open"}},

	// Linked packages initialise themselves in each run, for every file.
	{of: []string{"cmd/qkdmail"}, not: []string{"testing", "modernc.org/sqlite/.", "github.com/chromedp", "go.opentelemetry.io", "go.uber.org", "google.golang.org/grpc"}},

	// Packages about keys know no mail, and protocols do not know each other.
	{of: []string{"kmclient", "cmd/internal/kmsim", "cmd/internal/kmdoctor"}, not: []string{"cipher", "mailer", "github.com/emersion"}},
	{of: []string{"kmclient/mock"}, not: []string{"net/http"}},

	// The life of a key is the same with every key manager and engine.
	{of: []string{"kmclient/keystore/."}, not: append([]string{"kmclient/open", "kmclient/keystore/sqlite", "kmclient/keystore/postgres"}, protocols...)},
	{of: []string{"kmclient/keystore/."}, not: []string{"modernc.org", "zombiezen.com", "github.com/jackc"}},

	// Packages that commands share know no command.
	{of: []string{"cmd/internal/flags", "cmd/internal/terminal"}, not: commands},
	{of: []string{"cmd/internal/terminal"}, not: []string{"cmd/internal/flags"}},
}

// commands are the packages with the commands of qkdmail.
var commands = []string{"cmd/internal/cli", "cmd/internal/messagecmd", "cmd/internal/kmcmd", "cmd/internal/storecmd", "cmd/internal/relaycmd"}

// protocols are the ways to reach a key manager: what kmclient/open opens.
var protocols = []string{"kmclient/etsi014", "kmclient/rest", "kmclient/mock"}

// TestRules: no package imports what it must not know.
func TestRules(t *testing.T) {
	all := packages(t)
	for _, r := range rules {
		seen := false
		for _, p := range all {
			if !slices.ContainsFunc(r.of, func(of string) bool { return within(p.path(), of) }) {
				continue
			}
			seen = true
			for _, dep := range p.Deps {
				if slices.ContainsFunc(r.not, func(not string) bool { return within(local(dep), not) }) {
					t.Errorf("%s must not import %s, directly or through others", p.path(), local(dep))
				}
			}
		}
		if !seen {
			t.Errorf("a rule is about %v: there is no such package", r.of)
		}
	}
}

// TestProtocols: the list of protocols has all those that kmclient/open opens, and
// none imports another.
func TestProtocols(t *testing.T) {
	for _, p := range packages(t) {
		if p.path() == "kmclient/open" {
			for _, dep := range p.Imports {
				if within(local(dep), "kmclient") && !within(local(dep), "kmclient/.") && !within(local(dep), "kmclient/internal") && !slices.Contains(protocols, local(dep)) {
					t.Errorf("kmclient/open imports %s: add it to protocols", local(dep))
				}
			}
		}
		if slices.Contains(protocols, p.path()) {
			for _, dep := range p.Deps {
				if slices.Contains(protocols, local(dep)) {
					t.Errorf("%s must not import %s, another protocol", p.path(), local(dep))
				}
			}
		}
	}
}

// within reports whether a package is the named one or below it.
func within(path, name string) bool {
	name, alone := strings.CutSuffix(name, "/.")
	return path == name || !alone && strings.HasPrefix(path, name+"/")
}

// A package larger than this should be several.
const (
	maxFiles = 30
	maxLines = 3500
)

// TestRooms: no package has more files and lines, without tests, than a reader can
// keep in mind.
func TestRooms(t *testing.T) {
	for _, p := range packages(t) {
		lines := 0
		for _, file := range p.GoFiles {
			text, err := os.ReadFile(filepath.Join(p.Dir, file))
			if err != nil {
				t.Fatal(err)
			}
			lines += bytes.Count(text, []byte("\n"))
		}
		if len(p.GoFiles) > maxFiles || lines > maxLines {
			t.Errorf("%s has %d files with %d lines, over %d or %d: make it several packages", p.path(), len(p.GoFiles), lines, maxFiles, maxLines)
		}
	}
}
