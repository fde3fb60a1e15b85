package config

import (
	"encoding"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"net/netip"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"
	"github.com/qkdmail/qkdmail/kmclient/keystore"
	"github.com/qkdmail/qkdmail/mailer/internal/readable"
)

// decode puts a tree of TOML values into c, whose other fields keep their defaults.
// go-toml's own decoder takes keys in any case, stops at the first wrong type, and names
// Go's types.
func decode(c *Config, tree map[string]any) error {
	d := &decoder{findings: findings{c: c}, folder: filepath.Dir(c.file)}
	d.table("", tree, reflect.ValueOf(c).Elem())
	return d.err()
}

type decoder struct {
	findings
	folder string // that paths are relative to
}

func (d *decoder) table(path string, from map[string]any, to reflect.Value) {
	for _, key := range slices.Sorted(maps.Keys(from)) {
		at := subKey(path, key)
		field, unit, ok := fieldOf(to, key)
		if !ok {
			d.add(at, "unknown key: %s", nearKeys(key, keysOf(to.Type())))
			continue
		}
		d.value(at, from[key], field, unit)
	}
}

// value sets one field. unit is what the field's tag has for a number or string.
func (d *decoder) value(at string, from any, to reflect.Value, unit string) {
	switch to.Interface().(type) {
	case time.Duration:
		d.text(at, from, "a duration like \"90s\", \"9m\", \"4h\" or \"60d\"", func(s string) error {
			v, err := keystore.ParseDuration(s)
			to.SetInt(int64(v))
			return err
		})
		return
	case slog.Level:
		d.text(at, from, "debug, info, warn or error", func(s string) error {
			return to.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(s))
		})
		return
	case keystore.Policy:
		d.text(at, from, "after-delivery, after:DURATION like \"after:7d\", or never", func(s string) error {
			v, err := keystore.ParsePolicy(s)
			to.Set(reflect.ValueOf(v))
			return err
		})
		return
	case netip.Prefix:
		d.text(at, from, "a network like \"192.0.2.0/24\" or an address", func(s string) error {
			v, err := parseNetwork(s)
			to.Set(reflect.ValueOf(v))
			return err
		})
		return
	}
	if u, ok := to.Addr().Interface().(encoding.TextUnmarshaler); ok {
		d.text(at, from, "a string", func(s string) error {
			if err := u.UnmarshalText([]byte(s)); err != nil {
				return &badText{err.Error()}
			}
			return nil
		})
		return
	}
	switch to.Kind() {
	case reflect.Struct:
		if table, ok := from.(map[string]any); ok {
			d.table(at, table, to)
		} else {
			d.wrongType(at, "a table", from)
		}
	case reflect.Slice:
		d.slice(at, from, to, unit)
	case reflect.Pointer:
		to.Set(reflect.New(to.Type().Elem()))
		d.value(at, from, to.Elem(), unit)
	default:
		d.scalar(at, from, to, unit)
	}
}

func (d *decoder) slice(at string, from any, to reflect.Value, unit string) {
	list, ok := from.([]any)
	if !ok {
		d.wrongType(at, "an array", from)
		return
	}
	to.Set(reflect.MakeSlice(to.Type(), len(list), len(list)))
	for i, v := range list {
		entry := to.Index(i)
		if e, ok := entry.Addr().Interface().(defaulter); ok {
			e.setDefaults()
		}
		d.value(entryKey(at, i), v, entry, unit)
	}
}

func (d *decoder) scalar(at string, from any, to reflect.Value, unit string) {
	s, isString := from.(string)
	switch to.Kind() {
	case reflect.Bool:
		if b, ok := from.(bool); ok {
			to.SetBool(b)
		} else {
			d.wrongType(at, "true or false", from)
		}
	case reflect.Int, reflect.Int64:
		n, ok := from.(int64)
		switch {
		case ok && !to.OverflowInt(n):
			to.SetInt(n)
		case unit == "size" && isString:
			if n, ok = parseSize(s); !ok || to.OverflowInt(n) {
				d.add(at, "%q is not a size; write bytes as 65536 or \"64 KiB\", also with MiB or GiB", readable.Short(s))
				return
			}
			to.SetInt(n)
		case unit == "size":
			d.wrongType(at, "a size like 65536 or \"64 KiB\"", from)
		default:
			d.wrongType(at, "an integer", from)
		}
	case reflect.String:
		if !isString {
			d.wrongType(at, "a string", from)
			return
		}
		to.SetString(d.inFolder(s, unit))
	default:
		panic("config: no value of type " + to.Type().String())
	}
}

// inFolder completes a relative path in a text, if the field's tag says that it has one.
func (d *decoder) inFolder(s, unit string) string {
	before, path := "", s
	switch {
	case unit == "key":
		if path = strings.TrimPrefix(s, "file:"); strings.HasPrefix(s, "credential:") {
			return s
		}
	case unit == "store" && s != StoreNone && keystore.Location(s).IsFile(), unit == "file":
	case unit == "secret" && strings.HasPrefix(s, "file:"):
		before, path = "file:", s[len("file:"):]
	default:
		return s
	}
	if path != "" && !filepath.IsAbs(path) {
		path = filepath.Join(d.folder, path)
	}
	return before + path
}

// A badText is an error that says everything that is wrong with a value.
type badText struct{ message string }

func (e *badText) Error() string { return e.message }

// text parses a string. If there is no string or parse refuses it, the finding says what
// is wanted.
func (d *decoder) text(at string, from any, want string, parse func(string) error) {
	s, ok := from.(string)
	if !ok {
		d.wrongType(at, want, from)
		return
	}
	switch err := parse(s).(type) {
	case nil:
	case *badText:
		d.add(at, "%s", err.message)
	default:
		d.add(at, "%q must be %s", readable.Short(s), want)
	}
}

func (d *decoder) wrongType(at, want string, got any) {
	d.add(at, "must be %s, not %s", want, kindOf(got))
}

// kindOf names the type of a TOML value.
func kindOf(v any) string {
	switch v.(type) {
	case string:
		return "a string"
	case int64:
		return "an integer"
	case float64:
		return "a float"
	case bool:
		return "a boolean"
	case []any:
		return "an array"
	case map[string]any:
		return "a table"
	case time.Time, toml.LocalDateTime, toml.LocalDate, toml.LocalTime:
		return "a date or time"
	}
	return fmt.Sprintf("a %T", v)
}

// parseSize reads a number of bytes, as "65536", "64 KiB" or "1GiB".
func parseSize(s string) (int64, bool) {
	number, shift := s, 0
	for unit, bits := range map[string]int{"KiB": 10, "MiB": 20, "GiB": 30} {
		if before, ok := strings.CutSuffix(s, unit); ok {
			number, shift = strings.TrimRight(before, " "), bits
		}
	}
	n, err := strconv.ParseUint(number, 10, 63)
	if err != nil || n > math.MaxInt64>>shift {
		return 0, false
	}
	return int64(n) << shift, true
}

// parseNetwork reads a network, or an address as the network of that address alone.
func parseNetwork(s string) (netip.Prefix, error) {
	if !strings.Contains(s, "/") {
		a, err := netip.ParseAddr(s)
		if err != nil || a.Zone() != "" || a.Is4In6() {
			return netip.Prefix{}, fmt.Errorf("%q is no address", s)
		}
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	switch {
	case err != nil:
		return netip.Prefix{}, err
	case p.Addr().Is4In6():
		return netip.Prefix{}, &badText{fmt.Sprintf("%q must be written as IPv4", s)}
	case p != p.Masked():
		return netip.Prefix{}, &badText{fmt.Sprintf("%q has bits after its length: did you mean \"%s\"?", s, p.Masked())}
	}
	return p, nil
}
