package mailer

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/qkdmail/qkdmail/cipher"
)

// Each reason in the source is one of Reasons, and the other way round: they are labels
// of metrics, and operators look them up.
func TestReasonsAreComplete(t *testing.T) {
	used := reasonsInSource(t)
	if len(used) < 30 {
		t.Fatalf("only %d reasons found in the source: %q", len(used), used)
	}
	known := map[string]bool{}
	for _, r := range Reasons() {
		if known[r.Name] {
			t.Errorf("%q is there twice", r.Name)
		}
		known[r.Name] = true
		if !slices.Contains(used, r.Name) {
			t.Errorf("nothing is refused with the reason %q", r.Name)
		}
		for _, text := range []string{r.Means, r.Advice} {
			if !strings.HasSuffix(text, ".") {
				t.Errorf("%q: %q is not a sentence", r.Name, text)
			}
		}
	}
	for _, r := range used {
		if !known[r] {
			t.Errorf("%q is missing in Reasons", r)
		}
	}
}

// reasonsInSource returns the third argument of each call of refusal.New, and the
// reasons of replies.
func reasonsInSource(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	beneath, err := filepath.Glob("internal/*/*.go")
	if err != nil {
		t.Fatal(err)
	}
	files = append(files, beneath...)
	reasons := []string{reasonNextHop, reasonRedirected, reasonReversePath}
	add := func(e ast.Expr) {
		lit, ok := e.(*ast.BasicLit)
		if !ok || lit.Kind != token.STRING {
			return // a constant, or a field of replies
		}
		text, err := strconv.Unquote(lit.Value)
		if err != nil {
			t.Fatal(err)
		}
		reasons = append(reasons, text)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CallExpr:
				if fn, ok := n.Fun.(*ast.SelectorExpr); ok && fn.Sel.Name == "New" && types.ExprString(fn.X) == "refusal" {
					add(n.Args[2])
				}
			case *ast.FuncDecl:
				if n.Name.Name != "replies" {
					return true
				}
				ast.Inspect(n.Body, func(n ast.Node) bool {
					if row, ok := n.(*ast.CompositeLit); ok && len(row.Elts) == 5 {
						add(row.Elts[3])
					}
					return true
				})
			}
			return true
		})
	}
	slices.Sort(reasons)
	return slices.Compact(reasons)
}

// Each thing that the cipher finds in a message has its own reply, and none of the errors
// of the packages below is forgotten.
func TestReplies(t *testing.T) {
	for _, err := range []error{
		cipher.ErrWrongKey, cipher.ErrAltered, cipher.ErrSAE, cipher.ErrVersion, cipher.ErrSuite, cipher.ErrDamaged,
	} {
		if r := replyTo(fmt.Errorf("x: %w", err)); r.Code != 550 || r.Cause == nil || strings.Contains(r.Message, "x:") {
			t.Errorf("%v: %+v", err, r)
		}
	}
	if r := replyTo(fmt.Errorf("no such thing")); r.Code != 451 {
		t.Errorf("an unknown error: %+v", r)
	}
}
