package main

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// TestLinks wants the small program to stay small: each package that is linked
// in initialises itself and takes pages of memory in every run, for every file,
// whether it is used or not. These belong into qkdmaild.
func TestLinks(t *testing.T) {
	const own = "github.com/qkdmail/qkdmail/"
	heavy := []string{ // each with what is below it
		own + "cmd/internal/daemon",
		own + "mailer",
		own + "kmclient/keystore/postgres",
		"github.com/emersion/go-smtp",
		"github.com/jackc",
		"github.com/pelletier/go-toml",
		"github.com/prometheus",
		"go.opentelemetry.io",
		"go.uber.org",
		"google.golang.org",
		"html/template",
		"net/http/pprof",
		"testing",
	}
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatalf("go list -deps: %v", err)
	}
	linked := strings.Fields(string(out))
	if !slices.Contains(linked, own+"cipher") {
		t.Fatalf("go list -deps does not know package cipher, so it can't be right: %d packages", len(linked))
	}
	for _, pkg := range linked {
		for _, h := range heavy {
			if pkg == h || strings.HasPrefix(pkg, h+"/") {
				t.Errorf("qkdmail links %s: move what needs it to cmd/internal/daemon (\"go mod why %s\" shows the way)", pkg, pkg)
			}
		}
	}
}
