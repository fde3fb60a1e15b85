package sim

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var planted = flag.String("planted", "", "plant these faults, a pattern of their names, and see that each is found")

// A plantedFault is a mistake that relays could have, but that the product itself never
// has. Its file in testdata/planted says what is wrong, which invariants find it, and
// which texts of the product are replaced by what.
type plantedFault struct {
	name, what string
	finds      []string
	rare       bool // only the regression of the same name finds it
	edits      []edit
}

type edit struct{ file, text, instead string }

// root is the repository's folder.
var root = filepath.Join("..", "..", "..")

func plantedFaults(t *testing.T) (all []plantedFault) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", "planted", "*.txt"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		f, err := parseFault(strings.TrimSuffix(filepath.Base(file), ".txt"), string(text))
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		all = append(all, f)
	}
	return all
}

var marker = regexp.MustCompile(`(?m)^-- (.+) --\n`)

func parseFault(name, text string) (f plantedFault, err error) {
	marks := marker.FindAllStringSubmatchIndex(text, -1)
	if len(marks) == 0 || len(marks)%2 != 0 {
		return f, errors.New("want pairs of -- FILE -- and -- instead --")
	}
	what, finds, found := strings.Cut(text[:marks[0][0]], "\nfinds: ")
	if !found {
		return f, errors.New("no line says which invariants find it")
	}
	finds, f.rare = strings.CutSuffix(finds, "\nrare\n")
	f.name, f.what, f.finds = name, strings.TrimPrefix(what, "# "), strings.Split(strings.TrimSpace(finds), ", ")
	part := func(i int) string {
		end := len(text)
		if i+1 < len(marks) {
			end = marks[i+1][0]
		}
		return text[marks[i][1]:end]
	}
	for i := 0; i < len(marks); i += 2 {
		f.edits = append(f.edits, edit{text[marks[i][2]:marks[i][3]], part(i), part(i + 1)})
	}
	return f, nil
}

// plant writes the changed files into a folder, and the overlay for the go command. It
// fails if the product has changed where the fault would be.
func (f plantedFault) plant(dir string) (overlay string, err error) {
	changed := map[string]string{}
	for _, e := range f.edits {
		path, err := filepath.Abs(filepath.Join(root, e.file))
		if err != nil {
			return "", err
		}
		text, ok := changed[path]
		if !ok {
			b, err := os.ReadFile(path)
			if err != nil {
				return "", err
			}
			text = string(b)
		}
		if n := strings.Count(text, e.text); n != 1 {
			return "", fmt.Errorf("%s has the text %d times, want once: write the fault anew\n%s", e.file, n, e.text)
		}
		changed[path] = strings.Replace(text, e.text, e.instead, 1)
	}
	replace := map[string]string{}
	for path, text := range changed {
		copied := filepath.Join(dir, strings.ReplaceAll(filepath.ToSlash(path), "/", "_"))
		if err := os.WriteFile(copied, []byte(text), 0o600); err != nil {
			return "", err
		}
		replace[path] = copied
	}
	b, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	overlay = filepath.Join(dir, "overlay.json")
	return overlay, os.WriteFile(overlay, b, 0o600)
}

// regression is the scenario that a fault violated, "" if there is none.
func (f plantedFault) regression() string {
	file := filepath.Join("testdata", "regressions", f.name+".json")
	if _, err := os.Stat(file); err != nil {
		return ""
	}
	return file
}

// TestPlantable: each planted fault still fits the product, and each regression has its
// fault.
func TestPlantable(t *testing.T) {
	left := regressions(t)
	for _, f := range plantedFaults(t) {
		file := f.regression()
		left = slices.DeleteFunc(left, func(other string) bool { return other == file })
		if f.rare && file == "" {
			t.Errorf("%s: nothing would find it: it is rare, and has no regression", f.name)
		}
		if _, err := f.plant(t.TempDir()); err != nil {
			t.Errorf("%s: %v", f.name, err)
		}
	}
	if len(left) > 0 {
		t.Errorf("no planted fault has the name of %v: does it still show anything?", left)
	}
}

// faultRow is a row of the table of planted faults: name, what is wrong, and found by what.
var faultRow = regexp.MustCompile(`(?m)^\| ([a-z0-9-]+) \| (.+) \| ([a-z ]+) \| (?:\d+|regression) \|$`)

// TestPlantedInDocs: docs/reliability.md has the same faults as testdata/planted, and says
// the same about them.
func TestPlantedInDocs(t *testing.T) {
	docs, err := os.ReadFile(filepath.Join(root, "docs", "reliability.md"))
	if err != nil {
		t.Fatal(err)
	}
	all, rows := plantedFaults(t), faultRow.FindAllStringSubmatch(string(docs), -1)
	if len(all) != len(rows) {
		t.Errorf("%d planted faults, and %d in docs/reliability.md", len(all), len(rows))
	}
	for i := range min(len(all), len(rows)) {
		f, row := all[i], rows[i]
		if f.name != row[1] || f.what != row[2] || !slices.Contains(f.finds, row[3]) {
			t.Errorf("docs/reliability.md has\n%s\nand testdata/planted\n%s: %s\nfound by %q", row[0], f.name, f.what, f.finds)
		}
	}
}

// TestPlanted: seeds find each planted fault, by an invariant that it should violate, and
// so does its regression.
func TestPlanted(t *testing.T) {
	if *planted == "" {
		t.Skip("compiles the relays once for each planted fault: run scripts/simulate -planted .")
	}
	name := regexp.MustCompile(*planted)
	for _, f := range plantedFaults(t) {
		if !name.MatchString(f.name) {
			continue
		}
		t.Run(f.name, func(t *testing.T) {
			dir := t.TempDir()
			overlay, err := f.plant(dir)
			if err != nil {
				t.Fatal(err)
			}
			program := filepath.Join(dir, "sim.test")
			if out, err := exec.Command("go", "test", "-overlay", overlay, "-c", "-o", program, ".").CombinedOutput(); err != nil {
				t.Fatalf("it does not compile: %v\n%s", err, out)
			}
			if f.regression() != "" { // a few times: the scheduler plays a part
				f.find(t, program, "-test.run", "^TestRegressions$/^"+f.name+"$", "-test.count", "5")
			}
			if !f.rare {
				f.find(t, program, "-test.run", "^TestSeeds$", "-for", "1m", "-shrink=false")
			}
		})
	}
}

var violated = regexp.MustCompile(`(seed \d+|[-a-z]+\.json).*\[([a-z ]+): .*`)

// find runs a program that has the fault, which should violate an invariant.
func (f plantedFault) find(t *testing.T, program string, arguments ...string) {
	t.Helper()
	cmd := exec.Command(program, arguments...)
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1")
	out, err := cmd.CombinedOutput()
	m := violated.FindSubmatch(out)
	switch {
	case err == nil || m == nil:
		t.Errorf("%s\nnot found with %q:\n%s", f.what, arguments, out)
	case !slices.Contains(f.finds, string(m[2])):
		t.Errorf("%s\nfound, but not by %q: %s", f.what, f.finds, m[0])
	default:
		t.Logf("found with %s by %q", m[1], m[2])
	}
}
