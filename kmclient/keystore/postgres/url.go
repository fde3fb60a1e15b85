package postgres

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/qkdmail/qkdmail/kmclient"
)

const (
	defaultSchema      = "qkdmail"
	defaultConnections = 16
	perHost            = 3  // one host may take this fraction of the time to answer
	maxIdentifier      = 63 // bytes of a name that PostgreSQL keeps
)

// A place is what a URL leads to.
type place struct {
	config    *pgxpool.Config
	schema    string
	where     string // the servers and the database, for people: no user, no password
	clearText bool   // others may be able to read and change the connection
}

// parse reads a URL. If it can't be used, the error is kmclient.ErrConfig and does not
// show it.
func parse(text string) (*place, error) {
	if !strings.HasPrefix(text, "postgres://") && !strings.HasPrefix(text, "postgresql://") {
		return nil, fmt.Errorf("%w: not of the form postgres://USER@HOST:PORT,HOST:PORT/DATABASE", kmclient.ErrConfig)
	}
	query, err := parameters(text)
	if err != nil {
		return nil, badURL(text, err)
	}
	config, err := pgxpool.ParseConfig(withDefaults(text, query))
	if err != nil {
		return nil, badURL(text, err)
	}
	if strings.Contains(config.ConnConfig.Database+config.ConnConfig.Host, "@") { // a "/" in the password
		return nil, badURL(text, nil)
	}
	p := &place{config: config, schema: defaultSchema}
	if path, found := config.ConnConfig.RuntimeParams["search_path"]; found {
		p.schema = path
		delete(config.ConnConfig.RuntimeParams, "search_path")
	}
	if !isIdentifier(p.schema) {
		return nil, fmt.Errorf("%w: search_path must be the name of one schema, of small letters, digits and \"_\", at most %d", kmclient.ErrConfig, maxIdentifier)
	}
	if !query.Has("pool_max_conns") {
		config.MaxConns = defaultConnections
	}
	p.describe()
	return p, nil
}

// parameters returns the parameters after the "?" of a URL.
func parameters(text string) (url.Values, error) {
	_, query, _ := strings.Cut(text, "?")
	return url.ParseQuery(query)
}

// withDefaults returns the URL with the defaults of this package that differ from
// libpq's.
func withDefaults(text string, query url.Values) string {
	if query.Has("target_session_attrs") {
		return text
	}
	if !strings.Contains(text, "?") {
		text += "?"
	} else if !strings.HasSuffix(text, "?") {
		text += "&"
	}
	return text + "target_session_attrs=read-write"
}

// badURL is the error for an unusable URL. It includes pgx's error only if no part of
// that can come from a password.
func badURL(text string, err error) error {
	if file, ok := errors.AsType[*fs.PathError](err); ok {
		return fmt.Errorf("%w: PostgreSQL URL: %w", kmclient.ErrConfig, file)
	}
	if p, ok := errors.AsType[*pgconn.ParseConfigError](err); ok && !strings.ContainsAny(text, "@") && !strings.Contains(strings.ToLower(text), "pass") {
		return fmt.Errorf("%w: PostgreSQL URL: %w", kmclient.ErrConfig, p)
	}
	return fmt.Errorf("%w: the PostgreSQL URL can't be read (it is not shown, as it may hold a password): it is of the form postgres://USER@HOST:PORT,HOST:PORT/DATABASE?NAME=VALUE, with special characters in the user or password written as %%XX", kmclient.ErrConfig)
}

// isIdentifier reports whether s is a name that needs no quotes.
func isIdentifier(s string) bool {
	for i, c := range []byte(s) {
		if (c < 'a' || c > 'z') && c != '_' && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != "" && len(s) <= maxIdentifier
}

// describe sets where and clearText.
func (p *place) describe() {
	c := p.config.ConnConfig
	hosts := []string{address(c.Host, c.Port)}
	p.clearText = c.TLSConfig == nil && !isLocal(c.Host)
	for _, f := range c.Fallbacks {
		hosts = append(hosts, address(f.Host, f.Port))
		p.clearText = p.clearText || f.TLSConfig == nil && !isLocal(f.Host)
	}
	hosts = slices.Compact(hosts) // a host may be tried with and without TLS
	p.where = "postgres://" + strings.Join(hosts, ",") + "/" + c.Database
}

func address(host string, port uint16) string {
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return host + ":" + strconv.Itoa(int(port))
}

// isLocal reports whether a connection stays on this machine.
func isLocal(host string) bool {
	if filepath.IsAbs(host) || host == "localhost" {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.IsLoopback()
}

// within makes the time for connections fit into the time for a call.
func (p *place) within(timeout time.Duration) {
	c := p.config.ConnConfig
	c.ConnectTimeout = min(cmp.Or(c.ConnectTimeout, timeout/perHost), timeout)
	p.config.PingTimeout = timeout / perHost
	c.RuntimeParams = maps.Clone(c.RuntimeParams)
	if _, found := c.RuntimeParams["application_name"]; !found {
		c.RuntimeParams["application_name"] = "qkdmail"
	}
}

// quoted is the name of the schema in SQL.
func (p *place) quoted() string { return pgx.Identifier{p.schema}.Sanitize() }
