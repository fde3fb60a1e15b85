// Package etsi014 is a client of ETSI GS QKD 014 V1.1.1, the REST API over mutual
// TLS that QKD systems speak. A site may have several KMEs.
package etsi014

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"sync/atomic"
	"time"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/internal/kmhttp"
)

// Options are the KMEs of a site and the identity of their caller.
type Options struct {
	// URLs are the KMEs of this site, at most 16, in the order in which to ask them:
	// https://HOST:PORT each, with or without a base path.
	URLs []string
	// SAE is the caller's own SAE ID. The KME takes the ID from the client certificate;
	// if its status names another one, a warning is logged. May be empty.
	SAE string
	// CertFile is a PEM file with the client certificate, followed by any intermediate
	// ones. KeyFile is one with its private key.
	CertFile, KeyFile string
	// CAFile is a PEM file with the CAs to trust instead of the system's.
	CAFile string
	// KMEID is the ID that the KME's certificate must contain: as common name, URI, DNS
	// name or serial number of the subject. A prefix limits it to one place: "cn:",
	// "uri:", "dns:", or "serial:" for the serial number of the subject or the
	// certificate (decimal or hexadecimal). IDs for several URLs are separated by
	// commas, in the order of the URLs; a single ID is for all.
	//
	// With a KMEID and a CAFile, the certificate need not name the host of the URL.
	// Without a KMEID it must, as usual with HTTPS.
	KMEID string
	// Timeout is for one request, including connecting; 30 seconds if zero. A third of
	// it is the limit for connecting.
	Timeout time.Duration
	// ExtensionMandatory and ExtensionOptional are sent with key requests (ETSI GS
	// QKD 014 §6.2) if they are not empty.
	ExtensionMandatory, ExtensionOptional []any
	// Dial makes the connections under TLS; nil: as net.Dialer does.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Logger gets failovers, lost answers and certificate files that can't be read.
	// May be nil.
	Logger *slog.Logger
}

const maxKMEs = 16 // of one site

// A Client asks the KMEs of a site. It reads the certificate files again when they
// change on disk.
//
// A KME deletes a key when it gives it out, so keys in a lost answer are lost. The
// Client does what it can about that, and counts them in [Stats]:
//
//   - It asks the next KME if the one before certainly gave no keys: no connection, or
//     an HTTP error. All keys of one [Client.GetKeys] come from one KME, so that the
//     other site also finds them at one.
//   - If the answer to enc_keys is lost, it asks for new keys, once. Those in the lost
//     answer are never used.
//   - If the answer to dec_keys is lost, it asks for the same keys once more. Keys
//     that arrive without the others of the same call are returned with the error
//     (see [Client.KeysByID]).
//   - If the keys of a site are spread over its KMEs, or if a KME takes fewer IDs
//     than its status says, it asks for keys one by one.
//   - It refuses to encrypt with a key whose ID it was given before.
//
// If the status request fails with an HTTP error, the KME is treated as one without
// limits. If it then refuses a key request because of a limit, the Client asks for
// fewer keys.
type Client struct {
	kmes    []*kme
	sae     string
	request encRequest // what all key requests share
	logger  *slog.Logger
	given   *idMemory // IDs of keys that this client has been given
	ids     kmhttp.IDBytes
	pause   func(ctx context.Context) error // before a request is repeated

	warned, failovers, burned, wasted, gone atomic.Int64
}

var _ kmclient.KeyManager = (*Client)(nil)

// New returns a client, which connects when it is used. If options are invalid or files
// can't be read, the error is kmclient.ErrConfig.
func New(o Options) (*Client, error) {
	if len(o.URLs) < 1 || len(o.URLs) > maxKMEs {
		return nil, fmt.Errorf("%w: %d KMEs: must be 1 to %d", kmclient.ErrConfig, len(o.URLs), maxKMEs)
	}
	c := &Client{
		sae: o.SAE, logger: o.Logger, pause: kmhttp.ShortPause, given: newIDMemory(rememberedIDs),
		request: encRequest{Mandatory: o.ExtensionMandatory, Optional: o.ExtensionOptional},
	}
	if c.logger == nil {
		c.logger = slog.New(slog.DiscardHandler)
	}
	if o.Dial == nil {
		o.Dial = new(net.Dialer).DialContext
	}
	c.ids.Store(16) // by the standard an ID is a UUID
	if _, err := json.Marshal(c.request); err != nil {
		return nil, fmt.Errorf("%w: extensions: %w", kmclient.ErrConfig, err)
	}
	ids, err := parseKMEIDs(o.KMEID, len(o.URLs))
	if err != nil {
		return nil, err
	}
	files, err := openTLSFiles(o.CertFile, o.KeyFile, o.CAFile, c.logger)
	if err != nil {
		return nil, err
	}
	for i, raw := range o.URLs {
		base, err := kmhttp.CheckTLSBase(raw)
		if err != nil {
			return nil, err
		}
		k := newKME(base, ids[i], files, o.Dial, o.Timeout)
		k.alone = len(o.URLs) == 1
		c.kmes = append(c.kmes, k)
	}
	return c, nil
}

// DeletesOnDelivery returns true: a KME deletes a key when it gives it out.
func (c *Client) DeletesOnDelivery() bool { return true }

// CloseKey does nothing and returns nil: the KME has deleted the key already, and
// the standard has no operation to close one.
func (c *Client) CloseKey(context.Context, string) error { return nil }

// CloseIdle closes the connections that no request is using.
func (c *Client) CloseIdle() {
	for _, k := range c.kmes {
		k.caller.HTTP.CloseIdleConnections()
	}
}

// Stats counts what has gone wrong since the client was made.
type Stats struct {
	Failovers int64 // requests that moved on to another KME
	Burned    int64 // keys from enc_keys whose answer was lost: the KME may have deleted them
	Wasted    int64 // keys that arrived and were wiped: unusable, or from a call that failed later
	Gone      int64 // keys that dec_keys no longer knew after a lost answer
}

// Stats returns the counts so far.
func (c *Client) Stats() Stats {
	return Stats{Failovers: c.failovers.Load(), Burned: c.burned.Load(), Wasted: c.wasted.Load(), Gone: c.gone.Load()}
}

// Status returns the status of the link to peer from the first KME that answers (ETSI
// GS QKD 014 §5.1). The KMEs share the time that ctx allows.
func (c *Client) Status(ctx context.Context, peer string) (kmclient.Status, error) {
	path, err := Path(peer, "status")
	if err != nil {
		return kmclient.Status{}, &kmclient.Error{Op: kmhttp.OpStatus, Err: err}
	}
	var failed *kmclient.Error
	order := c.order()
	for i, k := range order {
		s, err := k.statusWithin(ctx, len(order)-i, peer, path)
		if err == nil {
			c.compare(s)
			s.KeyIDBytes, s.Connections = int(c.ids.Load()), c.connections()
			return s, nil
		}
		failed = graver(failed, err)
		if ctx.Err() != nil {
			break
		}
		c.noteFailover(order[i:], err)
	}
	return kmclient.Status{}, failed
}

// connections returns how the KMEs that have answered were last reached.
func (c *Client) connections() (all []kmclient.Connection) {
	for _, k := range c.kmes {
		if reached := k.caller.Reached(); reached != nil {
			all = append(all, *reached)
		}
	}
	return all
}

// compare logs, once, if the KME takes the caller for another SAE.
func (c *Client) compare(s kmclient.Status) {
	if c.sae == "" || s.MasterSAE == "" || s.MasterSAE == c.sae || !c.warned.CompareAndSwap(0, 1) {
		return
	}
	c.logger.Warn("the KME takes this client for another SAE: is it the right certificate?",
		"sae", c.sae, "kme_says", s.MasterSAE)
}
