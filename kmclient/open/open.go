// Package open opens a key manager that a URL or the environment names.
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

// Options are what [KeyManager] and [FromEnv] need beside the choice of the key
// manager. Those that the chosen one has no use for are ignored, but a CAFile
// without TLS is a kmclient.ErrConfig.
type Options struct {
	CAFile  string        // PEM, the CAs to trust instead of the system's; only with TLS
	Timeout time.Duration // of one request; 30 seconds if zero. Not for the mock
	Logger  *slog.Logger  // for warnings; may be nil

	// Of ETSI 014 only, as in etsi014.Options.
	SAE, CertFile, KeyFile, KMEID string
}

// KeyManager returns the key manager that spec names:
//
//	mock:PATH           a mock on this JSON file; PATH.db is refused
//	mock:               a mock on mock.DefaultPath
//	http://HOST:PORT    the QMail REST API; a path may follow
//	https://HOST:PORT   the same over TLS
//	etsi014:https://HOST:PORT[,https://HOST2:PORT]
//	                    ETSI GS QKD 014, at one or more KMEs of this site
//
// Anything else is a kmclient.ErrConfig.
func KeyManager(spec string, o Options) (kmclient.KeyManager, error) {
	if err := checkSpec(spec); err != nil {
		return nil, err
	}
	switch scheme, rest, _ := strings.Cut(spec, ":"); scheme {
	case "mock":
		return openMock(rest, o)
	case "etsi014":
		return openETSI014(rest, o)
	}
	return openREST(spec, o)
}

// openMock, openREST and openETSI014 return an interface that is nil when
// there is an error, which a nil *mock.KeyManager in it would not be.

func openMock(path string, o Options) (kmclient.KeyManager, error) {
	m, err := mock.New(mock.Options{Path: path, Logger: o.Logger})
	if err != nil {
		return nil, err
	}
	return m, nil
}

func openREST(base string, o Options) (kmclient.KeyManager, error) {
	r, err := rest.New(rest.Options{URL: base, CAFile: o.CAFile, Timeout: o.Timeout})
	if err != nil {
		return nil, err
	}
	return r, nil
}

func openETSI014(urls string, o Options) (kmclient.KeyManager, error) {
	e, err := etsi014.New(etsi014.Options{
		URLs: strings.Split(urls, ","), SAE: o.SAE, CertFile: o.CertFile, KeyFile: o.KeyFile, CAFile: o.CAFile,
		KMEID: o.KMEID, Timeout: o.Timeout, Logger: o.Logger,
	})
	if err != nil {
		return nil, err
	}
	return e, nil
}

// checkSpec reports whether KeyManager understands spec.
func checkSpec(spec string) error {
	scheme, rest, colon := strings.Cut(spec, ":")
	switch {
	case scheme == "mock" && colon:
		if base, isDB := strings.CutSuffix(rest, ".db"); isDB {
			return fmt.Errorf("%w: the mock keeps its keys in a JSON file: use mock:%s.json", kmclient.ErrConfig, base)
		}
		return nil
	case scheme == "http" || scheme == "https":
		_, _, err := kmhttp.CheckBase(spec)
		return err
	case scheme == "etsi014" && colon:
		for raw := range strings.SplitSeq(rest, ",") {
			if _, err := kmhttp.CheckTLSBase(raw); err != nil {
				return err
			}
		}
		return nil
	}
	return fmt.Errorf("%w: a key manager is mock:PATH, mock: (for %s), http://HOST:PORT, https://HOST:PORT or "+
		"etsi014:https://HOST:PORT", kmclient.ErrConfig, mock.DefaultPath)
}
