// Package open opens the key manager that a URL or the environment names.
package open

import (
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/etsi014"
	"github.com/qkdmail/qkdmail/kmclient/internal/kmhttp"
	"github.com/qkdmail/qkdmail/kmclient/mock"
	"github.com/qkdmail/qkdmail/kmclient/rest"
)

// Options are the settings of any key manager. A key manager ignores a setting that it
// has no use for, except that a CAFile for an http:// URL is an error
// (kmclient.ErrConfig).
type Options struct {
	CAFile  string        // PEM file with the CAs to trust instead of the system's; only with TLS
	Timeout time.Duration // of one request; 30 seconds if zero
	Logger  *slog.Logger  // gets warnings; may be nil

	// For ETSI 014 only, as in etsi014.Options.
	SAE, CertFile, KeyFile, KMEID string
}

// KeyManager returns the key manager that spec names:
//
//	mock:PATH           a mock on this JSON file; PATH.db is refused
//	mock:               a mock on mock.DefaultPath
//	http://HOST:PORT    the QMail REST API, with or without a base path
//	https://HOST:PORT   the same over TLS
//	etsi014:https://HOST:PORT[,https://HOST2:PORT]
//	                    ETSI GS QKD 014, with one or more KMEs of this site
//
// For anything else the error is kmclient.ErrConfig.
func KeyManager(spec string, o Options) (kmclient.KeyManager, error) {
	if err := checkSpec(spec); err != nil {
		return nil, err
	}
	switch scheme, where, _ := strings.Cut(spec, ":"); scheme {
	case "mock":
		return opened(mock.New(mock.Options{Path: where, Logger: o.Logger}))
	case "etsi014":
		return opened(etsi014.New(etsi014.Options{
			URLs: strings.Split(where, ","), SAE: o.SAE, CertFile: o.CertFile, KeyFile: o.KeyFile, CAFile: o.CAFile,
			KMEID: o.KMEID, Timeout: o.Timeout, Logger: o.Logger,
		}))
	}
	return opened(rest.New(rest.Options{URL: spec, CAFile: o.CAFile, Timeout: o.Timeout}))
}

// opened returns a nil interface with an error, not one that holds a nil pointer.
func opened[K kmclient.KeyManager](km K, err error) (kmclient.KeyManager, error) {
	if err != nil {
		return nil, err
	}
	return km, nil
}

// checkSpec reports whether KeyManager accepts spec.
func checkSpec(spec string) error {
	scheme, where, colon := strings.Cut(spec, ":")
	switch {
	case scheme == "mock" && colon:
		if base, isDB := strings.CutSuffix(where, ".db"); isDB {
			return fmt.Errorf("%w: the mock keeps its keys in a JSON file: use mock:%s.json", kmclient.ErrConfig, base)
		}
		return nil
	case scheme == "http" || scheme == "https":
		_, _, err := kmhttp.CheckBase(spec)
		return err
	case scheme == "etsi014" && colon:
		for raw := range strings.SplitSeq(where, ",") {
			if _, err := kmhttp.CheckTLSBase(raw); err != nil {
				return err
			}
		}
		return nil
	}
	return fmt.Errorf("%w: a key manager is mock:PATH, mock: (for %s), http://HOST:PORT, https://HOST:PORT or "+
		"etsi014:https://HOST:PORT", kmclient.ErrConfig, mock.DefaultPath)
}
