package etsi014

import (
	"errors"
	"time"

	"github.com/qkdmail/qkdmail/kmclient"
)

// order returns the KMEs in the order in which to ask them. Those that could not be
// reached recently come last.
func (c *Client) order() []*kme {
	now := time.Now()
	order := make([]*kme, 0, len(c.kmes))
	for _, down := range []bool{false, true} {
		for _, k := range c.kmes {
			if k.isDown(now) == down {
				order = append(order, k)
			}
		}
	}
	return order
}

// noteFailover counts and logs that the first KME of order could not serve, if there is
// another one to ask.
func (c *Client) noteFailover(order []*kme, err *kmclient.Error) {
	if len(order) > 1 && order[1] != order[0] {
		c.failovers.Add(1)
		c.logger.Warn("a KME could not serve; asking another", "kme", order[0].name, "next", order[1].name, "error", err)
	}
}

// graver chooses which of two KMEs' errors to report. It reports that a key does not
// exist, or that none is left, only if all KMEs say so: one that could not be asked may
// have it.
func graver(a, b *kmclient.Error) *kmclient.Error {
	if a == nil || b != nil && isAbsence(a) && !isAbsence(b) {
		return b
	}
	return a
}

// isAbsence reports whether a KME has answered that it does not have the key, or has
// none at all.
func isAbsence(e *kmclient.Error) bool {
	return errors.Is(e, kmclient.ErrKeyNotFound) || errors.Is(e, kmclient.ErrKeyExhausted)
}
