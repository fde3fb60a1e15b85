package config

import (
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"testing"

	"github.com/pelletier/go-toml/v2"
	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/mailer"
)

const exampleConfig = "../../../docs/relay.toml"

// The example is valid as it is.
func TestConfigExample(t *testing.T) {
	c, err := Load(exampleConfig)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Policy(); err != nil {
		t.Fatal(err)
	}
	if got, want := c.KM.Cert, filepath.Join(filepath.Dir(exampleConfig), "sae_a.crt"); got != want {
		t.Errorf("km.cert is %q, want %q, in the folder of the file", got, want)
	}
}

// The example shows the defaults of all tables that have some, and the default
// values of the pool.
func TestConfigExampleDefaults(t *testing.T) {
	c, err := Load(exampleConfig)
	if err != nil {
		t.Fatal(err)
	}
	d := Default()
	note := cipher.DefaultNote
	d.Headers.Note = &note
	for _, table := range []struct{ got, want any }{
		{c.NullSender, d.NullSender}, {c.Headers, d.Headers}, {c.Limits, d.Limits}, {c.Timeouts, d.Timeouts}, {c.Log, d.Log}, {c.Admin, d.Admin},
		{c.Store.Close, d.Store.Close}, {c.Store.Tombstones, d.Store.Tombstones}, {c.Store.Undelivered, d.Store.Undelivered},
		{c.KM.RequestTimeout, d.KM.RequestTimeout}, {c.KM.Timeout, d.KM.Timeout}, {c.KM.Pool, d.KM.Pool},
		{c.Rules[0].Encrypt, mailer.Required}, {c.Rules[0].PadLimit, cipher.DefaultPadLimit},
		{c.Peers[0].Inbound, inboundRequired}, {c.Log.Level, slog.LevelInfo},
	} {
		if !reflect.DeepEqual(table.got, table.want) {
			t.Errorf("the example has %+v, the default is %+v", table.got, table.want)
		}
	}
	var l Listener
	l.setDefaults()
	if in := c.Listeners[1]; !reflect.DeepEqual(in.Networks, l.Networks) || in.TLS != l.TLS || in.Protocol != l.Protocol {
		t.Errorf("the example has the listener %+v, the default is %+v", in, l)
	}
	var n NextHop
	n.setDefaults()
	n.Name, n.Address = c.NextHops[0].Name, c.NextHops[0].Address
	if c.NextHops[0] != n {
		t.Errorf("the example has the next hop %+v, the default is %+v", c.NextHops[0], n)
	}
}

// The example has every key, some of them after a #; these too are of the right type.
func TestConfigExampleHasAllKeys(t *testing.T) {
	text, err := os.ReadFile(exampleConfig)
	if err != nil {
		t.Fatal(err)
	}
	text = regexp.MustCompile(`(?m)^# ([a-z_]+ = )`).ReplaceAll(text, []byte("$1"))
	var tree map[string]any
	if err := toml.Unmarshal(text, &tree); err != nil {
		t.Fatal(err)
	}
	if err := decode(Default(), tree); err != nil {
		t.Fatal(err)
	}
	missing := allKeys("", reflect.TypeFor[Config]())
	for path := range keyLines(text) {
		delete(missing, regexp.MustCompile(`\[\d+\]`).ReplaceAllString(path, ""))
	}
	for key := range missing {
		t.Errorf("%s does not have %s", exampleConfig, key)
	}
}

// allKeys returns the paths of all keys that are not tables themselves.
func allKeys(prefix string, table reflect.Type) map[string]bool {
	keys := map[string]bool{}
	for i := range table.NumField() {
		field := table.Field(i)
		name, _ := tagOf(field)
		if name == "" {
			continue
		}
		name = subKey(prefix, name)
		kind := field.Type
		if kind.Kind() == reflect.Slice {
			kind = kind.Elem()
		}
		if kind.Kind() != reflect.Struct || kind.PkgPath() != "" && kind.PkgPath() != reflect.TypeFor[Config]().PkgPath() {
			keys[name] = true
			continue
		}
		for k := range allKeys(name, kind) {
			keys[k] = true
		}
	}
	return keys
}
