// Package etsi014 is a client of ETSI GS QKD 014 V1.1.1, the REST API over
// mutual TLS that QKD systems speak, with one or more KMEs at a site.
package etsi014

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/internal/kmhttp"
	"github.com/qkdmail/qkdmail/kmclient/internal/redact"
)

// Options says where the KMEs of one site are, and who calls them.
type Options struct {
	// URLs are those of the KMEs of this site, https://HOST:PORT each, in the
	// order in which they are asked; a path, beneath which the API is, may
	// follow. At most 16.
	URLs []string
	// SAE is the caller's own SAE ID. A KME takes it from the client
	// certificate; it is compared with what the KME then says, and a
	// difference logged. Empty: not compared.
	SAE string
	// CertFile and KeyFile are PEM files with the client certificate (and
	// those between it and its CA) and its private key.
	CertFile, KeyFile string
	// CAFile is a PEM file with the CAs to trust instead of the system's.
	CAFile string
	// KMEID is the KME's ID, which its certificate must hold: in the common
	// name, a URI or DNS name, or the subject's serial number. A prefix says
	// where alone it may be: "cn:", "uri:", "dns:", or "serial:" for the
	// serial number of the subject or the certificate (decimal or
	// hexadecimal). IDs for each of several URLs, in their order, are
	// separated by commas; one ID is for all of them.
	//
	// With a KMEID and a CAFile, the certificate need not name the host of
	// the URL. Without a KMEID, it must, as everywhere with HTTPS.
	KMEID string
	// Timeout is for one request, connecting included; 30 seconds if zero. A
	// third of it is the limit for connecting.
	Timeout time.Duration
	// ExtensionMandatory and ExtensionOptional are sent with requests for
	// keys (ETSI GS QKD 014 §6.2), if not empty.
	ExtensionMandatory, ExtensionOptional []any
	// Logger is for failovers, lost answers and certificate files that can't
	// be read; may be nil.
	Logger *slog.Logger
}

const maxKMEs = 16 // of one site

// Client is a client of ETSI GS QKD 014 V1.1.1, which QKD systems speak: a
// REST API over mutual TLS, with one or more KMEs at a site. The certificate
// files are read again when they change on disk.
//
// A KME deletes a key when it gives it out ([Client.DeletesOnDelivery]), so
// an answer that gets lost takes its keys with it. What can be done about it
// is done, and counted in [Stats]:
//
//   - The next KME is asked where the one before gave no keys for certain: no
//     connection, or an HTTP error. All keys of one call to
//     [Client.GetKeys] come from one KME, so that the other site can find
//     them at one.
//   - If the answer to enc_keys is lost, new keys are asked for, once. Those
//     of the lost answer are never used.
//   - If the answer to dec_keys is lost, the same keys are asked for once
//     more. Keys that arrive without the others of the same call are returned
//     with the error ([Client.KeysByID]).
//   - If a site's keys are spread over its KMEs, or a KME takes fewer IDs than
//     its status says, keys are asked for one by one.
//   - A key with an ID that this client has been given before is refused.
//
// A KME whose status fails with an HTTP error is taken to have no limits, and is
// asked for fewer keys where it then tells of one.
type Client struct {
	kmes    []*kme
	sae     string
	request encRequest // what all requests for keys have in common
	logger  *slog.Logger
	handed  *idMemory
	ids     kmhttp.IDBytes
	pause   func(ctx context.Context) error // before a question is asked again

	warned, failovers, burned, wasted, gone atomic.Int64
}

var _ kmclient.KeyManager = (*Client)(nil)

// New returns a client; it connects to nothing yet. Options that make no
// sense and files that can't be read are a kmclient.ErrConfig.
func New(o Options) (*Client, error) {
	if len(o.URLs) < 1 || len(o.URLs) > maxKMEs {
		return nil, fmt.Errorf("%w: %d KMEs: must be 1 to %d", kmclient.ErrConfig, len(o.URLs), maxKMEs)
	}
	e := &Client{
		sae: o.SAE, logger: o.Logger, pause: kmhttp.ShortPause, handed: newIDMemory(rememberedIDs),
		request: encRequest{Mandatory: o.ExtensionMandatory, Optional: o.ExtensionOptional},
	}
	if e.logger == nil {
		e.logger = slog.New(slog.DiscardHandler)
	}
	e.ids.Store(16) // by the standard an ID is a UUID
	if _, err := json.Marshal(e.request); err != nil {
		return nil, fmt.Errorf("%w: extensions: %w", kmclient.ErrConfig, err)
	}
	ids, err := parseKMEIDs(o.KMEID, len(o.URLs))
	if err != nil {
		return nil, err
	}
	files, err := openTLSFiles(o.CertFile, o.KeyFile, o.CAFile, e.logger)
	if err != nil {
		return nil, err
	}
	for i, raw := range o.URLs {
		base, err := kmhttp.CheckTLSBase(raw)
		if err != nil {
			return nil, err
		}
		k := newKME(base, ids[i], files, o.Timeout)
		k.alone = len(o.URLs) == 1
		e.kmes = append(e.kmes, k)
	}
	return e, nil
}

// DeletesOnDelivery is true: a KME deletes a key when it gives it out.
func (e *Client) DeletesOnDelivery() bool { return true }

// CloseKey does nothing, successfully: the KME deleted the key when it gave it
// out, and has no operation to close one.
func (e *Client) CloseKey(context.Context, string) error { return nil }

// CloseIdle closes the connections that no request is using.
func (e *Client) CloseIdle() {
	for _, k := range e.kmes {
		k.caller.HTTP.CloseIdleConnections()
	}
}

// Stats counts what has not gone as it should since the client was
// made.
type Stats struct {
	Failovers int64 // questions that went on to another KME
	Burned    int64 // keys asked for with enc_keys whose answer was lost: their pads may be gone
	Wasted    int64 // keys that arrived and were wiped unused: unusable, or from a call that failed later
	Gone      int64 // keys that dec_keys knew no more after an answer had been lost
}

// Stats returns the counts so far.
func (e *Client) Stats() Stats {
	return Stats{Failovers: e.failovers.Load(), Burned: e.burned.Load(), Wasted: e.wasted.Load(), Gone: e.gone.Load()}
}

// Status reports the link to peer, as the first KME that answers knows it. Each
// has its share of the time that ctx leaves.
func (e *Client) Status(ctx context.Context, peer string) (kmclient.Status, error) {
	path, err := saePath(peer, "status")
	if err != nil {
		return kmclient.Status{}, &kmclient.Error{Op: kmhttp.OpStatus, Err: err}
	}
	var failed *kmclient.Error
	order := e.order()
	for i, k := range order {
		s, err := k.statusWithin(ctx, len(order)-i, peer, path)
		if err == nil {
			e.compare(s)
			s.KeyIDBytes = int(e.ids.Load())
			return s, nil
		}
		failed = graver(failed, err)
		if ctx.Err() != nil {
			break
		}
		e.noteFailover(order[i:], err)
	}
	return kmclient.Status{}, failed
}

// statusWithin is status with the first of shares of the caller's time, so that a
// KME that takes connections and never answers leaves some to the next one. It
// is then asked last for a while, as after the end of a request's own time.
func (k *kme) statusWithin(ctx context.Context, shares int, peer, path string) (kmclient.Status, *kmclient.Error) {
	deadline, ok := ctx.Deadline()
	if !ok || shares == 1 {
		return k.status(ctx, peer, path)
	}
	share := time.Until(deadline) / time.Duration(shares)
	limited, cancel := context.WithTimeout(ctx, share)
	defer cancel()
	s, err := k.status(limited, peer, path)
	if err != nil && err.Status == 0 && limited.Err() != nil && ctx.Err() == nil {
		k.noteDown()
		err.Err = fmt.Errorf("%w: no whole answer within %v: %w", kmclient.ErrUnavailable, share.Round(time.Millisecond), os.ErrDeadlineExceeded)
	}
	return s, err
}

// compare logs, once, that the KME takes the caller for another SAE.
func (e *Client) compare(s kmclient.Status) {
	if e.sae == "" || s.MasterSAE == "" || s.MasterSAE == e.sae || !e.warned.CompareAndSwap(0, 1) {
		return
	}
	e.logger.Warn("the KME takes this client for another SAE: is it the right certificate?",
		"sae", e.sae, "kme_says", s.MasterSAE)
}

// order returns the KMEs in the order in which to ask them: those that could
// not be reached a moment ago come last.
func (e *Client) order() []*kme {
	now := time.Now()
	order := make([]*kme, 0, len(e.kmes))
	for _, down := range []bool{false, true} {
		for _, k := range e.kmes {
			if k.isDown(now) == down {
				order = append(order, k)
			}
		}
	}
	return order
}

// noteFailover tells that the first of order could not serve, and that another
// will be asked, if there is one.
func (e *Client) noteFailover(order []*kme, err *kmclient.Error) {
	if len(order) > 1 && order[1] != order[0] {
		e.failovers.Add(1)
		e.logger.Warn("a KME could not serve; asking another", "kme", order[0].name, "next", order[1].name, "error", err)
	}
}

// graver returns the error to tell of two KMEs' ones. That a key does not
// exist, or that none is left, is said only if all of them say so: one that
// could not be asked may have it.
func graver(a, b *kmclient.Error) *kmclient.Error {
	if a == nil || b != nil && isAbsence(a) && !isAbsence(b) {
		return b
	}
	return a
}

// saePath returns the path of an operation with a peer. Like a key ID, an SAE
// ID may come from afar and must not lead to another path.
func saePath(sae, operation string) (string, error) {
	switch {
	case sae == "":
		return "", fmt.Errorf("%w: no peer: an SAE ID is needed", kmclient.ErrBadRequest)
	case len(sae) > kmclient.MaxIDLength || !utf8.ValidString(sae) || strings.ContainsFunc(sae, unicode.IsControl) || kmhttp.Climbs(sae):
		return "", fmt.Errorf("%w: %q can't be an SAE ID", kmclient.ErrBadRequest, redact.Line(sae))
	}
	return "/api/v1/keys/" + url.PathEscape(sae) + "/" + operation, nil
}
