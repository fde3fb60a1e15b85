package mailer

import (
	"context"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/kmclient"
)

// Each reason that the source has is one of Reasons, and the other way round:
// they are labels of metrics, and operators look them up.
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
			t.Errorf("nothing is refused for %q", r.Name)
		}
		for _, text := range []string{r.Means, r.Advice} {
			if !strings.HasSuffix(text, ".") {
				t.Errorf("%q: %q is no sentence", r.Name, text)
			}
		}
	}
	for _, r := range used {
		if !known[r] {
			t.Errorf("%q is missing in Reasons", r)
		}
	}
}

// reasonsInSource returns the third argument of each call of refuse, and the
// reasons of replies.
func reasonsInSource(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	reasons := []string{reasonNextHop}
	add := func(e ast.Expr) {
		lit, ok := e.(*ast.BasicLit)
		if !ok || lit.Kind != token.STRING {
			return // reasonNextHop, or a field of replies
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
				if fn, ok := n.Fun.(*ast.Ident); ok && fn.Name == "refuse" {
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

// A recorder keeps reports.
type recorder struct {
	mu      sync.Mutex
	reports []Report
}

func (r *recorder) Message(m Report) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reports = append(r.reports, m)
}

// last returns the last of n reports.
func (r *recorder) last(t *testing.T, n int) Report {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.reports) != n {
		t.Fatalf("%d reports, want %d: %+v", len(r.reports), n, r.reports)
	}
	return r.reports[n-1]
}

func TestObserverEncrypt(t *testing.T) {
	noLeaks(t)
	hop, km := startHop(t), newTestKM()
	r := startRelayWith(t, km, DirectionEncrypt, hop.addr())
	seen := &recorder{}
	r.Observe(seen)
	c := connect(t, r)
	c.want("250", attempt(c, testMessage))
	got := seen.last(t, 1)
	if got.Total <= 0 || got.KeyWait <= 0 || got.HopWait <= 0 || got.Total < got.KeyWait || got.Total < got.HopWait {
		t.Errorf("times %v, of it %v for keys and %v for the next hop", got.Total, got.KeyWait, got.HopWait)
	}
	got.Total, got.KeyWait, got.HopWait = 0, 0, 0
	want := Report{Direction: DirectionEncrypt, Peer: "bravo", Suite: cipher.SuiteAES256GCM, Outcome: OutcomeEncrypted, Octets: int64(len(testMessage)), Keys: got.Keys, Delivered: 1}
	if got != want || got.Keys < 1 {
		t.Errorf("reported %+v, want %+v with keys", got, want)
	}

	km.get = func(context.Context) error { return kmclient.ErrKeyExhausted }
	c.want("451 4.7.5", attempt(c, testMessage))
	got = seen.last(t, 2)
	if got.Outcome != OutcomeDeferred || got.Reason != "no key left" || got.Peer != "bravo" || got.HopWait > got.Total {
		t.Errorf("without a key: %+v", got)
	}
	c.want("250", c.cmd("RSET"))
	c.want("250", c.cmd("MAIL FROM:<a@a.example>"))
	c.want("553", c.cmd("RCPT TO:<b\u00fc@b.example>"))
	if got = seen.last(t, 3); got.Command != "RCPT" || got.Outcome != OutcomeRefused || got.Reason != "smtputf8" || got.Octets != 0 {
		t.Errorf("an address that needs SMTPUTF8: %+v", got)
	}
}

func TestObserverDecrypt(t *testing.T) {
	noLeaks(t)
	km, hop := newTestKM(), startHop(t)
	r := startRelayWith(t, km, DirectionDecrypt, hop.addr(), func(c *Config) { c.Peers[0].Inbound = InboundOptional })
	seen := &recorder{}
	r.Observe(seen)
	encrypted := seal(t, km, testMessage)
	c := connect(t, r)
	c.want("250", attempt(c, encrypted))
	got := seen.last(t, 1)
	if got.KeyWait <= 0 || got.HopWait <= 0 || got.Total < got.KeyWait+got.HopWait {
		t.Errorf("times %v, of it %v for keys and %v for the next hop", got.Total, got.KeyWait, got.HopWait)
	}
	if got.Outcome != OutcomeDecrypted || got.Suite != cipher.SuiteAES256GCM || got.Peer != "alpha" || got.Octets != int64(len(encrypted)) || got.Keys < 1 || got.Reason != "" {
		t.Errorf("reported %+v", got)
	}
	c.want("250", attempt(c, testMessage))
	if got := seen.last(t, 2); got.Outcome != OutcomePlain || got.Suite != "" || got.Peer != "" {
		t.Errorf("plain mail: %+v", got)
	}
	km.spoil = func(_ string, octets []byte) []byte { octets[0] ^= 1; return octets }
	c.want("550 5.7.7", attempt(c, seal(t, km, testMessage)))
	if got := seen.last(t, 3); got.Outcome != OutcomeRefused || got.Reason != "authentication" || got.Peer != "alpha" || got.KeyWait <= 0 || got.HopWait != 0 {
		t.Errorf("with another key: %+v", got)
	}
}
