package repotest

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestDocumentLinks: what the documents point to in this repository is there.
func TestDocumentLinks(t *testing.T) {
	var documents []string
	for _, pattern := range []string{"*.md", "docs/*.md"} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		documents = append(documents, found...)
	}
	links := 0
	link := regexp.MustCompile(`\]\(([^)#\s]+)(#[^)]*)?\)|(?:src|srcset)="([^"]+)"`)
	for _, document := range documents {
		text, err := os.ReadFile(document)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			target := m[1] + m[3]
			if strings.Contains(target, ":") {
				continue
			}
			links++
			if _, err := os.Stat(filepath.Join(filepath.Dir(document), target)); err != nil {
				t.Errorf("%s points to %s, which is not there", filepath.Base(document), target)
			}
		}
	}
	if links < 20 {
		t.Errorf("%d links in %d documents: too few to be all", links, len(documents))
	}
}
