package admin

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"flag"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/qkdmail/qkdmail/cmd/internal/kmsim"
	"github.com/qkdmail/qkdmail/mailer"
)

var update = flag.Bool("update", false, "rewrite docs/metrics.md")

const (
	metricsDoc = "../../../docs/metrics.md"
	alertsDoc  = "../../../docs/alerts.yml"
	grafanaDoc = "../../../docs/grafana.json"
)

// fullRig has something in every metric.
func fullRig(t *testing.T) *rig {
	t.Helper()
	cert := filepath.Join(t.TempDir(), "client.crt")
	r := newRig(t, func(s *Sources) { s.Config.KM.Cert = cert })
	writeCert(t, cert, r.clock().Add(90*24*time.Hour))
	r.aDay(120)
	r.Message(report(mailer.DirectionEncrypt, "site-b", mailer.OutcomeRefused, "next hop"))
	return r
}

// writeCert writes a certificate that ends at a time.
func writeCert(t *testing.T, file string, end time.Time) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: end.Add(-24 * time.Hour), NotAfter: end}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	// With the private key before it, as some people keep it.
	text := append(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

func fullSimulator(t *testing.T) *Simulator {
	t.Helper()
	s := NewSimulator("v1")
	s.Watch(func() []kmsim.Stock {
		return []kmsim.Stock{{SAEs: []string{"SAE_A", "SAE_B"}, Ready: 5}, {OnDemand: true}}
	})
	s.Observe(kmsim.Request{KME: "KME_A", Operation: "enc_keys", Status: 200, Keys: 3, Took: time.Millisecond})
	s.Observe(kmsim.Request{Operation: "status", Status: 0})
	return s
}

// families returns the program's own metrics in a registry.
func families(t *testing.T, reg *prometheus.Registry) []*dto.MetricFamily {
	t.Helper()
	all, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(all, func(f *dto.MetricFamily) bool { return !strings.HasPrefix(f.GetName(), "qkdmail_") })
}

// docs/metrics.md has each metric and each reason, with its meaning.
func TestMetricsDoc(t *testing.T) {
	text, err := os.ReadFile(metricsDoc)
	if err != nil {
		t.Fatal(err)
	}
	want := string(text)
	for part, rows := range map[string]string{
		"relay": metricRows(families(t, fullRig(t).reg)), "simulator": metricRows(families(t, fullSimulator(t).reg)), "reasons": reasonRows(),
	} {
		begin, end := "<!-- begin "+part+" -->\n", "<!-- end "+part+" -->"
		before, rest, ok1 := strings.Cut(want, begin)
		_, after, ok2 := strings.Cut(rest, end)
		if !ok1 || !ok2 {
			t.Fatalf("%s has no %s", metricsDoc, begin)
		}
		want = before + begin + rows + end + after
	}
	if want == string(text) {
		return
	}
	if !*update {
		t.Fatalf("%s is out of date: go test ./cmd/internal/admin -run TestMetricsDoc -update", metricsDoc)
	}
	if err := os.WriteFile(metricsDoc, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}

func metricRows(all []*dto.MetricFamily) string {
	var b strings.Builder
	b.WriteString("| metric | type | labels | meaning |\n|---|---|---|---|\n")
	for _, f := range all {
		var labels []string
		for _, l := range f.GetMetric()[0].GetLabel() {
			labels = append(labels, "`"+l.GetName()+"`")
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", f.GetName(), strings.ToLower(f.GetType().String()), strings.Join(labels, ", "), f.GetHelp())
	}
	return b.String()
}

func reasonRows() string {
	var b strings.Builder
	b.WriteString("| reason | meaning | what to do |\n|---|---|---|\n")
	for _, r := range mailer.Reasons() {
		fmt.Fprintf(&b, "| %s | %s | %s |\n", r.Name, r.Means, r.Advice)
	}
	return b.String()
}

// Each metric used by the alerts and the dashboard exists.
func TestQueriesNameMetrics(t *testing.T) {
	known := map[string]bool{}
	for _, f := range families(t, fullRig(t).reg) {
		known[f.GetName()] = true
		if f.GetType() == dto.MetricType_HISTOGRAM {
			for _, suffix := range []string{"_bucket", "_sum", "_count"} {
				known[f.GetName()+suffix] = true
			}
		}
	}
	for _, file := range []string{alertsDoc, grafanaDoc} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		names := regexp.MustCompile(`\bqkdmail_[a-z_]+`).FindAllString(string(text), -1)
		if len(names) < 10 {
			t.Errorf("%s names only %d metrics", file, len(names))
		}
		for _, name := range names {
			if !known[name] {
				t.Errorf("%s: there is no metric %s", file, name)
			}
		}
	}
}

// The dashboard is JSON, each of its panels has a title and queries, and each
// query is valid.
func TestDashboard(t *testing.T) {
	text, err := os.ReadFile(grafanaDoc)
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		Title  string
		UID    string
		Panels []struct {
			ID          int
			Title, Type string
			Description string
			GridPos     struct{ X, Y, W, H int }
			Targets     []struct{ Expr, RefID string }
		}
	}
	if err := json.Unmarshal(text, &dashboard); err != nil {
		t.Fatal(err)
	}
	var rules strings.Builder
	rules.WriteString("groups:\n- name: dashboard\n  rules:\n")
	ids := map[int]bool{}
	for _, p := range dashboard.Panels {
		if p.Type == "row" {
			continue
		}
		if p.Title == "" || p.Description == "" || len(p.Targets) == 0 || ids[p.ID] || p.GridPos.W == 0 || p.GridPos.X+p.GridPos.W > 24 {
			t.Errorf("panel %d %q: it lacks a title, description, query, place or unique ID", p.ID, p.Title)
		}
		ids[p.ID] = true
		for i, q := range p.Targets {
			expr := strings.NewReplacer("$__rate_interval", "5m", "$__range", "1h").Replace(q.Expr)
			fmt.Fprintf(&rules, "  - record: panel:%d:%d\n    expr: %q\n", p.ID, i, expr)
		}
	}
	if dashboard.Title == "" || dashboard.UID == "" || len(ids) < 8 {
		t.Errorf("title %q, uid %q, %d panels", dashboard.Title, dashboard.UID, len(ids))
	}
	file := filepath.Join(t.TempDir(), "rules.yml")
	if err := os.WriteFile(file, []byte(rules.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	promtool(t, "", "check", "rules", file)
}

// The metrics follow Prometheus's conventions.
func TestPromtoolCheckMetrics(t *testing.T) {
	for name, url := range map[string]string{
		"relay":     serve(t, fullRig(t).Handler(), ServeOptions{}),
		"simulator": serve(t, fullSimulator(t).Handler(), ServeOptions{}),
	} {
		t.Run(name, func(t *testing.T) {
			_, body := get(t, url+"/metrics")
			if out := promtool(t, body, "check", "metrics"); out != "" {
				t.Errorf("promtool finds:\n%s", out)
			}
		})
	}
}

// The alerts are valid rules, and fire when they should and only then.
func TestPromtoolAlerts(t *testing.T) {
	promtool(t, "", "check", "rules", alertsDoc)
	promtool(t, "", "test", "rules", filepath.Join("testdata", "alerts_test.yml"))
}

// promtool runs Prometheus's tool and returns what it prints on standard error.
func promtool(t *testing.T, input string, args ...string) string {
	t.Helper()
	if testing.Short() {
		t.Skip("SKIPPED: -short runs no promtool")
	}
	program, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("SKIPPED: promtool is not installed: metrics, alerts and queries are not checked by it")
	}
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Stdin = strings.NewReader(input)
	var errs strings.Builder
	cmd.Stderr = &errs
	if out, err := cmd.Output(); err != nil {
		t.Fatalf("promtool %s: %v\n%s%s", strings.Join(args, " "), err, out, &errs)
	}
	return errs.String()
}

func TestExpiry(t *testing.T) {
	dir := t.TempDir()
	end := time.Date(2026, 3, 20, 12, 0, 0, 0, time.UTC)
	good, bad := filepath.Join(dir, "good.crt"), filepath.Join(dir, "bad.crt")
	writeCert(t, good, end)
	if err := os.WriteFile(bad, []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := newRig(t, func(s *Sources) {
		s.Config.KM.Cert = good
		s.Config.Listeners[0].TLSCert, s.Config.Listeners[1].TLSCert = bad, filepath.Join(dir, "missing.crt")
	})
	found := expiries(r.config.Load())
	if len(found) != 1 || !found["key manager client"].Equal(end) {
		t.Errorf("found %v, want the one that can be read, at %v", found, end)
	}
	for days, want := range map[int]int{-20: 0, -13: 1, 1: 1} {
		r.set(func() { r.now = end.AddDate(0, 0, days) })
		r.check(t.Context())
		n := 0
		for _, c := range r.Checks() {
			if c.Name == "certificates" {
				n++
				if c.State != StateWarning || !strings.Contains(c.Found, "key manager client (2026-03-20)") {
					t.Errorf("%+v", c)
				}
			}
		}
		if n != want {
			t.Errorf("%d days from its end, there are %d warnings, want %d", days, n, want)
		}
	}
}
