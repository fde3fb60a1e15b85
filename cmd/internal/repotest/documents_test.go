package repotest

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"
)

// documents returns the texts of all documents, by their paths.
func documents(t *testing.T) map[string]string {
	t.Helper()
	texts := map[string]string{}
	for _, pattern := range []string{"*.md", "docs/*.md", ".github/*.md"} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range found {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			texts[path] = string(text)
		}
	}
	if len(texts) < 10 {
		t.Fatalf("only %d documents", len(texts))
	}
	return texts
}

// TestDocumentLinks: the targets of the documents' links in this repository
// exist.
func TestDocumentLinks(t *testing.T) {
	links := 0
	link := regexp.MustCompile(`\]\(([^)#\s]+)(#[^)]*)?\)|(?:src|srcset)="([^"]+)"`)
	for path, text := range documents(t) {
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			target := m[1] + m[3]
			if strings.Contains(target, ":") {
				continue
			}
			links++
			if _, err := os.Stat(filepath.Join(filepath.Dir(path), target)); err != nil {
				t.Errorf("%s points to %s, which does not exist", filepath.Base(path), target)
			}
		}
	}
	if links < 20 {
		t.Errorf("%d links: some must have been missed", links)
	}
}

// TestDocumentWidth: prose is wrapped at 80 columns; tables, commands and
// headings are as wide as they must be.
func TestDocumentWidth(t *testing.T) {
	const width = 80
	asItIs := regexp.MustCompile(`^(\|| *<|#|    )`)
	for path, text := range documents(t) {
		fenced, n := false, 0
		for line := range strings.Lines(text) {
			n++
			line = strings.TrimSuffix(line, "\n")
			if strings.HasPrefix(strings.TrimSpace(line), "```") {
				fenced = !fenced
			}
			if columns := utf8.RuneCountInString(line); columns > width && !fenced && !asItIs.MatchString(line) {
				t.Errorf("%s:%d has %d columns, over %d: wrap it", filepath.Base(path), n, columns, width)
			}
		}
	}
}

// TestDocumentPaths: the files and folders that documents name exist. NAME
// stands for any name.
func TestDocumentPaths(t *testing.T) {
	paths := 0
	named := regexp.MustCompile("`((?:cipher|cmd|docs|kmclient|mailer|scripts|testdata)/[A-Za-z0-9_./-]+)[` ]")
	for document, text := range documents(t) {
		for _, m := range named.FindAllStringSubmatch(text, -1) {
			paths++
			if strings.HasSuffix(m[1], "/NAME") {
				continue
			}
			if _, err := os.Stat(filepath.Join(root, m[1])); err != nil {
				t.Errorf("%s names %s, which does not exist", filepath.Base(document), m[1])
			}
		}
	}
	if paths < 50 {
		t.Errorf("%d paths: some must have been missed", paths)
	}
}
