package config

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/kmclient/keystore"
	"github.com/qkdmail/qkdmail/mailer"
	"github.com/qkdmail/qkdmail/mailer/internal/readable"
)

// errorsOf takes apart a joined error.
func errorsOf(t *testing.T, err error) []*Error {
	t.Helper()
	if err == nil {
		return nil
	}
	if !errors.Is(err, mailer.ErrConfig) {
		t.Errorf("%v is not a mailer.ErrConfig", err)
	}
	list := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		list = joined.Unwrap()
	}
	var found []*Error
	for _, e := range list {
		c, ok := errors.AsType[*Error](e)
		if !ok {
			t.Fatalf("%v is not an *Error", e)
		}
		found = append(found, c)
	}
	return found
}

// Each bad file lists, after "#! ", the beginnings of all its errors, without the file
// name, in their order.
func TestConfigBadFiles(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("testdata", "bad-*.toml"))
	if err != nil || len(files) < 18 {
		t.Fatal(len(files), "files", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			want := map[string]bool{}
			for line := range strings.Lines(string(text)) {
				if message, ok := strings.CutPrefix(line, "#! "); ok {
					want[strings.TrimSpace(message)] = true
				}
			}
			c, err := Load(file)
			if c != nil || len(want) == 0 {
				t.Error("the file was accepted, or expects no error")
			}
			last := 0
			for _, e := range errorsOf(t, err) {
				got, ok := strings.CutPrefix(e.Error(), file)
				got = strings.TrimLeft(got, ": ")
				if !ok || !takeExpected(want, got) {
					t.Errorf("unexpected: %s", e)
				}
				if e.Line < last {
					t.Errorf("line %d comes after line %d", e.Line, last)
				}
				last = e.Line
			}
			for message := range want {
				t.Errorf("not found: %s", message)
			}
		})
	}
}

func takeExpected(want map[string]bool, got string) bool {
	for w := range want {
		if strings.HasPrefix(got, w) {
			delete(want, w)
			return true
		}
	}
	return false
}

func TestConfigGoodFiles(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("testdata", "good-*.toml"))
	if err != nil || len(files) < 4 {
		t.Fatal(len(files), "files", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			c, err := Load(file)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := c.Policy(); err != nil && len(c.KeyFiles()) == 0 {
				t.Fatal(err)
			}
		})
	}
}

func goodConfig(t *testing.T, name string) *Config {
	t.Helper()
	c, err := Load(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestConfigValues(t *testing.T) {
	folder := filepath.Join("testdata")
	c := goodConfig(t, "good-03-encrypt.toml")
	hostname, _ := os.Hostname()
	for _, v := range []struct{ got, want any }{
		{c.Hostname, hostname},
		{len(c.Listeners[0].Networks), 0},
		{c.Listeners[1], Listener{
			Name: "submission", Direction: mailer.DirectionEncrypt, Protocol: LMTP, Address: ":10587", NextHop: "mta",
			Networks: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")},
			TLS:      TLSRequired, TLSCert: filepath.Join(folder, "relay.crt"), TLSKey: "/etc/relay.key",
			AuthFile: filepath.Join(folder, "users"),
		}},
		{c.NextHops[0], NextHop{
			Name: "mta", Address: "mta.example:24", Protocol: LMTP, TLS: TLSRequired,
			TLSCA: filepath.Join(folder, "ca.crt"), TLSName: "mx.example", AuthUser: "relay",
			AuthPasswordFile: filepath.Join(folder, "password"), MaxConnections: 7, MaxIdle: 1, MaxMessages: 5,
		}},
		{c.KM, KM{
			URL: "https://km.example:8443/base", CA: filepath.Join(folder, "km.crt"), RequestTimeout: 30 * time.Second, KeyGrace: 48 * time.Hour,
			Timeout: time.Minute, Pool: true, PoolBatch: 16, PoolMax: 16, PoolMaxAge: 90 * time.Second,
		}},
		{c.Rules[0], Rule{Domain: "xn--bcher-kva.example", Peer: "b", Encrypt: mailer.Opportunistic, Suite: "AES-256-GCM"}},
		{c.Rules[1], Rule{Domain: "default", Encrypt: mailer.Never, Suite: "auto"}},
		{*c.Headers.Note, ""}, {c.Headers.Policy, cipher.HeadersShy},
		{c.Log, Log{MessageID: idHash, Format: formatJSON, Level: slog.LevelWarn}},
	} {
		if !reflect.DeepEqual(v.got, v.want) {
			t.Errorf("got %+v, want %+v", v.got, v.want)
		}
	}

	c = goodConfig(t, "good-05-store.toml")
	if want := (Store{
		Path: "postgres://relay@127.0.0.1:5432,127.0.0.1:5433/mail", Key: "credential:store", Close: keystore.After(0),
		Tombstones: 31 * 24 * time.Hour, Undelivered: 90 * 24 * time.Hour,
	}); c.Store != want {
		t.Errorf("got %+v, want %+v", c.Store, want)
	}
	c = goodConfig(t, "good-02-spellings.toml")
	if c.KM.Pool || c.Limits.MessageSize != 1<<20 || c.Limits.Received != 32 || c.Limits.Recipients != 1000 {
		t.Errorf("got %+v %+v", c.KM, c.Limits)
	}
	if n := c.Listeners[0].Networks; len(n) != 2 || n[1] != netip.MustParsePrefix("::1/128") {
		t.Errorf("the default networks are %v", n)
	}
}

func TestPoolOptions(t *testing.T) {
	km := KM{Timeout: 2, PoolBatch: 3, PoolMax: 4, PoolMaxAge: 5}
	if got := km.PoolOptions(); got.Batch != 3 || got.Max != 4 || got.MaxAge != 5 || got.Timeout != 2 {
		t.Errorf("got %+v", got)
	}
}

// What can't be a configuration is refused quickly, and in few, printable words.
func TestConfigHostile(t *testing.T) {
	const big = maxSize - 8
	for name, text := range map[string]string{
		"too long":           strings.Repeat("#", maxSize+1),
		"NUL":                "hostname = \"a\x00\"",
		"NUL in a key":       `"a\u0000b" = 1`,
		"escape in a key":    `"\u001b[2J" = 1`,
		"no UTF-8":           "hostname = \"\xff\"",
		"no UTF-8 in a key":  "\"\xff\" = 1",
		"binary":             "\x7fELF\x02\x01\x01",
		"escape in a value":  "[[listener]]\naddress = \"\\u001b[2J\"",
		"deep arrays":        "hostname = " + strings.Repeat("[", big),
		"deep inline tables": "hostname = " + strings.Repeat("{a=", big/3-10),
		"deep tables":        "[" + strings.Repeat("a.", big/2-10) + "a]",
		"deep known tables":  "[" + strings.Repeat("km.", big/3-10) + "a]",
		"deep array tables":  strings.Repeat("[[listener.listener]]\n", 1000),
		"many keys":          manyLines(5_000, "k%d = 1\n"), // go-toml compares each with all others
		"many listeners":     strings.Repeat("[[listener]]\n", 20_000),
		"long key":           strings.Repeat("k", big-10) + " = 1",
		"long value":         "[[listener]]\naddress = \"" + strings.Repeat("é", big/2-20) + "\"",
		"many domains":       "[[peer]]\ndomains = [" + strings.Repeat("'.',", 50_000) + "]",
		"long domain":        "[[rule]]\ndomain = '" + strings.Repeat("ü.", big/3-20) + "'",
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			c, err := Parse("x.toml", []byte(text))
			if err == nil || c != nil {
				t.Fatal("taken")
			}
			if took := time.Since(start); took > 20*time.Second {
				t.Errorf("took %v", took)
			}
			found := errorsOf(t, err)
			if len(found) > maxFindings+1 {
				t.Errorf("%d errors", len(found))
			}
			for _, e := range found {
				if s := e.Error(); len(s) > 1000 || s != readable.Line(s) {
					t.Fatalf("an error of %d bytes: %.300q", len(s), s)
				}
			}
		})
	}
}

func manyLines(n int, format string) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, format, i)
	}
	return b.String()
}

func TestLoadConfigErrors(t *testing.T) {
	for _, path := range []string{"testdata/none.toml", "testdata"} {
		if _, err := Load(path); !errors.Is(err, mailer.ErrConfig) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if _, err := Load("testdata/none.toml"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v hides its cause", err)
	}
}

func TestConfigError(t *testing.T) {
	for want, e := range map[string]*Error{
		"m":         {Message: "m"},
		"k: m":      {Key: "k", Message: "m"},
		"f: m":      {File: "f", Message: "m"},
		"f:3: k: m": {File: "f", Line: 3, Key: "k", Message: "m"},
	} {
		if got := e.Error(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestQuickConfig(t *testing.T) {
	c, err := Quick(QuickOptions{
		Direction: mailer.DirectionEncrypt, Listen: "lmtp:127.0.0.1:10025", NextHop: "smtp:127.0.0.1:10027",
		KM: KM{URL: "mock:", SAE: "SAE_A"}, Peer: "SAE_B",
	})
	if err != nil {
		t.Fatal(err)
	}
	l, n := c.Listeners[0], c.NextHops[0]
	if l.Protocol != LMTP || l.Address != "127.0.0.1:10025" || n.Protocol != SMTP || n.Address != "127.0.0.1:10027" {
		t.Errorf("got %+v and %+v", l, n)
	}
	p, err := c.Policy()
	if err != nil {
		t.Fatal(err)
	}
	if r := p.Outbound("user@b.example"); r.Mode != mailer.Required || r.Peer == nil || r.Peer.SAE != "SAE_B" {
		t.Errorf("mail to anyone takes %+v", r)
	}
	c, err = Quick(QuickOptions{Direction: mailer.DirectionDecrypt, Listen: "unix:/run/in", NextHop: "127.0.0.1:10027", KM: KM{URL: "mock:"}})
	if err != nil || len(c.Rules) != 0 || c.Listeners[0].Protocol != SMTP {
		t.Errorf("got %+v, %v", c, err)
	}
}

func TestQuickConfigErrors(t *testing.T) {
	good := QuickOptions{Direction: mailer.DirectionDecrypt, Listen: "127.0.0.1:1", NextHop: "127.0.0.1:2", KM: KM{URL: "mock:"}}
	for want, spoil := range map[string]func(o *QuickOptions){
		`listener[0].direction: "both" must be`: func(o *QuickOptions) { o.Direction = "both" },
		`listener[0].address: missing`:          func(o *QuickOptions) { o.Listen = "" },
		`next_hop[0].address: "mta" must be`:    func(o *QuickOptions) { o.NextHop = "mta" },
		`next hop "next" speaks lmtp`:           func(o *QuickOptions) { o.NextHop = "lmtp:127.0.0.1:24" },
		`km.url: missing`:                       func(o *QuickOptions) { o.KM.URL = "" },
	} {
		o := good
		spoil(&o)
		if c, err := Quick(o); c != nil || err == nil || !strings.Contains(err.Error(), want) || !errors.Is(err, mailer.ErrConfig) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

func FuzzParseConfig(f *testing.F) {
	for _, pattern := range []string{filepath.Join("testdata", "*.toml"), exampleConfig} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			f.Fatal(pattern, err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(text)
		}
	}
	f.Add([]byte("a.b.c.d.e = [{x = [{}]}]\n[[a.b]]\n[a.b.c]\n[[a.b]]"))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := Parse("fuzz.toml", text)
		for _, e := range errorsOf(t, err) {
			if s := e.Error(); s != readable.Line(s) || e.Line < 0 || e.Line > strings.Count(string(text), "\n")+1 {
				t.Errorf("%q in line %d", s, e.Line)
			}
		}
		if err != nil {
			return
		}
		p, err := c.Policy()
		if len(c.KeyFiles()) > 0 {
			return // there are none
		}
		if err != nil {
			t.Fatalf("passed Check, but has no policy: %v", err)
		}
		if r := p.Outbound(string(text)); r.Mode != mailer.Never && c.Does(mailer.DirectionEncrypt) && r.Peer == nil {
			t.Errorf("encrypted for no peer: %+v", r)
		}
	})
}

// What a file can't say but a program that fills a Config can, and the rest.
func TestCheck(t *testing.T) {
	note := strings.Repeat("x", 8<<10+1)
	for want, spoil := range map[string]func(c *Config){
		"listener[0].networks[0]: no network":   func(c *Config) { c.Listeners[0].Networks = make([]netip.Prefix, 1) },
		"listener[0].xforward[0]: no network":   func(c *Config) { c.Listeners[0].XForward = make([]netip.Prefix, 1) },
		"listener[0].tls_key: missing":          func(c *Config) { c.Listeners[0].TLS, c.Listeners[0].TLSCert = TLSRequired, "x" },
		"headers.note: must be text of":         func(c *Config) { c.Headers.Note = &note },
		`km.url: "mock" must be`:                func(c *Config) { c.KM.URL = "mock" },
		`km.url: "https:km.example" must be`:    func(c *Config) { c.KM.URL = "https:km.example" },
		"km.sae: " + `"` + note[:64]:            func(c *Config) { c.KM.SAE = note },
		`km.sae: "-" stands for none`:           func(c *Config) { c.KM.SAE = "-" },
		"listener: missing":                     func(c *Config) { c.Listeners = nil },
		`listener[0].address: "[::1%]:25" must`: func(c *Config) { c.Listeners[0].Address = "[::1%]:25" },
	} {
		c := goodConfig(t, "good-01-least.toml")
		c.file, c.lines = "", nil
		spoil(c)
		err := c.Check()
		if found := errorsOf(t, err); len(found) != 1 || !strings.HasPrefix(found[0].Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

func TestEndpoint(t *testing.T) {
	for address, want := range map[string]string{
		"127.0.0.1:25": "tcp 127.0.0.1:25", "[::1]:25": "tcp [::1]:25", "mx.example:0": "tcp mx.example:0", ":25": "tcp :25",
		"unix:/run/x": "unix /run/x",
		"":            "", "host": "", "host:": "", "host:smtp": "", "host:65536": "", "host:-1": "", "a b:25": "", "::1:25": "",
		"unix:": "", "unix:x": "", "unix:@x": "", "unix:/a\x00b": "", "unix:/" + strings.Repeat("x", 107): "",
	} {
		network, addr, err := endpoint(address)
		if got := strings.TrimSpace(network + " " + addr); got != want || (err == nil) != (want != "") {
			t.Errorf("%q: got %q, %v", address, got, err)
		}
	}
}
