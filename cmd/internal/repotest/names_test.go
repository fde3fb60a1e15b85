package repotest

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"
)

// maxNames is the number of exported names in the packages that other modules
// can import. Growth is a decision: raise it and say why in the commit.
const maxNames = 262

// TestNames: the public API is no larger than was decided.
func TestNames(t *testing.T) {
	total := 0
	var report strings.Builder
	for _, p := range packages(t) {
		if strings.Contains(p.ImportPath+"/", "/internal/") {
			continue
		}
		n := 0
		for _, file := range p.GoFiles {
			f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, file), nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			if f.Name.Name != "main" {
				n += exported(f)
			}
		}
		total += n
		fmt.Fprintf(&report, "\n%5d %s", n, p.path())
	}
	if total == 0 || total > maxNames {
		t.Errorf("%d exported names in packages that are not internal, but %d were decided on:%s", total, maxNames, &report)
	}
	t.Logf("%d exported names:%s", total, &report)
}

// exported counts the exported names at the top level of a file, without
// methods and fields.
func exported(f *ast.File) int {
	n := 0
	count := func(names ...*ast.Ident) {
		for _, name := range names {
			if name.IsExported() {
				n++
			}
		}
	}
	for _, d := range f.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Recv == nil {
				count(d.Name)
			}
		case *ast.GenDecl:
			for _, s := range d.Specs {
				switch s := s.(type) {
				case *ast.TypeSpec:
					count(s.Name)
				case *ast.ValueSpec:
					count(s.Names...)
				}
			}
		}
	}
	return n
}
