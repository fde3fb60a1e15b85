package admin

import (
	"runtime"
	"slices"
	"time"

	"github.com/qkdmail/qkdmail/cmd/internal/metrics"
)

// collect adds what is not counted here but read elsewhere. No reading asks anything
// outside this process.
func (m *Monitor) collect() {
	addProgram(&m.metrics, m.s.Version)
	m.metrics.Collect(m.readChecks)
	m.metrics.Collect(m.readCertificates)
	if m.s.Pool != nil {
		m.metrics.Collect(m.readPool)
	}
	if m.s.KMEs != nil {
		m.metrics.Collect(m.readKMEs)
	}
	if m.s.Store != nil {
		m.metrics.Collect(m.readStore)
	}
}

// addProgram adds what is known of any program.
func addProgram(set *metrics.Set, version string) {
	set.Collect(metrics.Runtime)
	set.Collect(metrics.Process)
	set.Collect(func(r *metrics.Reading) {
		r.Gauge("qkdmail_build_info", "Always 1; the labels say which program this is.", 1, "version", version, "go_version", runtime.Version())
	})
}

// readChecks reads what the checks have found.
func (m *Monitor) readChecks(r *metrics.Reading) {
	r.Gauge("qkdmail_ready", "1 if mail can be expected to flow, as /readyz says.", truth(Ready(m.Checks())))
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.found.at.IsZero() {
		return
	}
	encrypted := m.encryptedFor()
	for name, l := range m.found.peers {
		r.Gauge("qkdmail_km_up", "1 if the key manager tells the status of the link to a peer.", truth(l.err == nil), "peer", name)
		if l.err != nil || l.status.OnDemand || l.status.StoredKeys == nil || !slices.Contains(encrypted, name) {
			continue // where none is needed, having none must not alarm anybody
		}
		r.Gauge("qkdmail_key_stock", "Keys that the key manager has ready for a peer that mail is encrypted for; absent where it makes them on demand.", float64(*l.status.StoredKeys), "peer", name)
		if l.status.MaxKeys > 0 {
			r.Gauge("qkdmail_key_stock_capacity", "Keys that the key manager can have ready for a peer that mail is encrypted for; absent where it does not say.", float64(l.status.MaxKeys), "peer", name)
		}
	}
	for name, err := range m.found.hops {
		r.Gauge("qkdmail_next_hop_up", "1 if a next hop can be reached.", truth(err == nil), "next_hop", name)
	}
	if m.s.Store != nil {
		r.Gauge("qkdmail_store_up", "1 if the store for keys can be written; absent where there is none.", truth(m.found.store == nil))
		r.Gauge("qkdmail_store_warnings", "What is questionable about the server of the store, as a number; the status page says what it is.", float64(len(m.storeWarnings())))
	}
}

func (m *Monitor) readCertificates(r *metrics.Reading) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name, at := range m.found.expiry {
		r.Gauge("qkdmail_certificate_expiry_timestamp_seconds", "When a certificate of this site ends.", seconds(at), "certificate", name)
	}
}

func (m *Monitor) readPool(r *metrics.Reading) {
	s := m.s.Pool()
	r.Gauge("qkdmail_pool_keys", "Keys that were fetched ahead and wait for messages.", float64(s.Stock))
	r.Counter("qkdmail_pool_requests_total", "Requests for keys that were made ahead.", float64(s.Requests))
	r.Counter("qkdmail_pool_failures_total", "Requests for keys ahead that brought none.", float64(s.Failures))
	r.Counter("qkdmail_pool_keys_fetched_total", "Keys that were fetched ahead.", float64(s.Fetched))
	r.Counter("qkdmail_pool_keys_expired_total", "Keys fetched ahead that were too old and were wiped unused.", float64(s.Expired))
	r.Counter("qkdmail_pool_keys_discarded_total", "Keys fetched ahead that could not be used or kept and were wiped unused.", float64(s.Discarded))
}

func (m *Monitor) readKMEs(r *metrics.Reading) {
	s := m.s.KMEs()
	r.Counter("qkdmail_km_failovers_total", "Questions that went on to another KME of this site.", float64(s.Failovers))
	r.Counter("qkdmail_km_keys_burned_total", "Keys to encrypt with whose answer was lost: they are never used.", float64(s.Burned))
	r.Counter("qkdmail_km_keys_wasted_total", "Keys that arrived and were wiped unused.", float64(s.Wasted))
	r.Counter("qkdmail_km_keys_gone_total", "Keys to decrypt with that the KME had no more after an answer was lost.", float64(s.Gone))
}

func (m *Monitor) readStore(r *metrics.Reading) {
	s := m.s.Store.Stats()
	r.Counter("qkdmail_store_keys_fetched_total", "Keys to decrypt with that came from the key manager.", float64(s.Fetched))
	r.Counter("qkdmail_store_keys_found_total", "Keys to decrypt with that were in the store already.", float64(s.FromStore))
	r.Counter("qkdmail_store_keys_stored_total", "Keys to decrypt with that were stored.", float64(s.Stored))
	r.Counter("qkdmail_store_keys_bound_total", "Keys that were bound to their message.", float64(s.Bound))
	r.Counter("qkdmail_store_keys_closed_total", "Keys that were closed: deleted in the store.", float64(s.Closed))
	r.Counter("qkdmail_store_keys_closed_at_km_total", "Closed keys that the key manager was told of.", float64(s.ClosedAtKM))
	r.Counter("qkdmail_store_sending_keys_total", "Keys to encrypt with whose IDs were recorded.", float64(s.Claimed))
	r.Counter("qkdmail_store_deliveries_total", "Recipients that were recorded as having got their message.", float64(s.Delivered))
	r.Counter("qkdmail_store_tombstones_removed_total", "Tombstones of closed keys that were removed for their age.", float64(s.Tombstones))
	r.Counter("qkdmail_store_errors_total", "Operations that failed for the store.", float64(s.StoreErrors))
	r.Gauge("qkdmail_store_keys_waiting", "Keys that were fetched and could not be stored yet.", float64(s.Waiting))
	swept := s.Swept
	if swept.IsZero() {
		swept = m.started
	}
	r.Gauge("qkdmail_store_swept_timestamp_seconds", "When the store was last swept; when the relay started, if not yet.", seconds(swept))
	for kind, n := range map[string]int64{"bound": s.BoundRefused, "closed": s.ClosedRefused, "reused": s.Reused, "changed": s.Changed} {
		r.Counter("qkdmail_attack_alarms_total", "What looks like an attack: a key that belongs to another message (bound), a key that has served its purpose (closed), a key ID that has had its use here and comes again (reused), a key that the key manager gives out again with other bytes (changed).", float64(n), "kind", kind)
	}
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }
