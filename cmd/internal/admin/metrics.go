package admin

import (
	"net/http"
	"runtime"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/qkdmail/qkdmail/kmclient/etsi014"
	"github.com/qkdmail/qkdmail/kmclient/keypool"
	"github.com/qkdmail/qkdmail/kmclient/keystore"
)

// A figure is a metric that is read when it is asked for.
type figure struct {
	kind prometheus.ValueType
	desc *prometheus.Desc
}

// A reading is what figures have at one time.
type reading struct {
	m     *Monitor
	out   chan<- prometheus.Metric
	store keystore.Stats
	pool  keypool.Stats
	kmes  etsi014.Stats
}

func (r *reading) put(f figure, value float64, labels ...string) {
	r.out <- prometheus.MustNewConstMetric(f.desc, f.kind, value, labels...)
}

// figures are those that one source has.
type figures struct {
	of   []figure
	read func(r *reading, of []figure)
}

func counter(name, help string, labels ...string) figure {
	return figure{prometheus.CounterValue, prometheus.NewDesc("qkdmail_"+name, help, labels, nil)}
}

func gauge(name, help string, labels ...string) figure {
	return figure{prometheus.GaugeValue, prometheus.NewDesc("qkdmail_"+name, help, labels, nil)}
}

// collect registers what is not counted here but read elsewhere.
func (m *Monitor) collect() {
	m.reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), buildInfo(m.s.Version))
	all := []figures{checkFigures(), certFigures()}
	if m.s.Pool != nil {
		all = append(all, poolFigures())
	}
	if m.s.KMEs != nil {
		all = append(all, kmeFigures())
	}
	if m.s.Store != nil {
		all = append(all, storeFigures(), alarmFigures())
	}
	m.reg.MustRegister(&collector{m, all})
}

func buildInfo(version string) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "qkdmail_build_info", Help: "Always 1; the labels say which program this is.",
		ConstLabels: prometheus.Labels{"version": version, "go_version": runtime.Version()},
	}, func() float64 { return 1 })
}

// A collector is Prometheus's view of figures.
type collector struct {
	m   *Monitor
	all []figures
}

// Describe tells all figures.
func (c *collector) Describe(out chan<- *prometheus.Desc) {
	for _, f := range c.all {
		for _, one := range f.of {
			out <- one.desc
		}
	}
}

// Collect reads all figures. It asks nothing of anything outside this process.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	r := &reading{m: c.m, out: out}
	if c.m.s.Store != nil {
		r.store = c.m.s.Store.Stats()
	}
	if c.m.s.Pool != nil {
		r.pool = c.m.s.Pool()
	}
	if c.m.s.KMEs != nil {
		r.kmes = c.m.s.KMEs()
	}
	for _, f := range c.all {
		f.read(r, f.of)
	}
}

func checkFigures() figures {
	return figures{[]figure{
		gauge("ready", "1 if mail can be expected to flow, as /readyz says."),
		gauge("km_up", "1 if the key manager tells the status of the link to a peer.", "peer"),
		gauge("key_stock", "Keys that the key manager has ready for a peer that mail is encrypted for; absent where it makes them on demand.", "peer"),
		gauge("key_stock_capacity", "Keys that the key manager can have ready for a peer that mail is encrypted for; absent where it does not say.", "peer"),
		gauge("next_hop_up", "1 if a next hop can be reached.", "next_hop"),
		gauge("store_up", "1 if the store for keys can be written; absent where there is none."),
		gauge("store_warnings", "What is questionable about the server of the store, as a number; the status page says what it is."),
	}, func(r *reading, of []figure) {
		r.put(of[0], truth(Ready(r.m.Checks())))
		r.m.mu.Lock()
		defer r.m.mu.Unlock()
		f := r.m.found
		if f.at.IsZero() {
			return
		}
		encrypted := r.m.encryptedFor()
		for name, l := range f.peers {
			r.put(of[1], truth(l.err == nil), name)
			if l.err != nil || l.status.OnDemand || l.status.StoredKeys == nil || !slices.Contains(encrypted, name) {
				continue // where none is needed, having none must not alarm anybody
			}
			r.put(of[2], float64(*l.status.StoredKeys), name)
			if l.status.MaxKeys > 0 {
				r.put(of[3], float64(l.status.MaxKeys), name)
			}
		}
		for name, err := range f.hops {
			r.put(of[4], truth(err == nil), name)
		}
		if r.m.s.Store != nil {
			r.put(of[5], truth(f.store == nil))
			r.put(of[6], float64(len(r.m.storeWarnings())))
		}
	}}
}

func certFigures() figures {
	return figures{[]figure{
		gauge("certificate_expiry_timestamp_seconds", "When a certificate of this site ends.", "certificate"),
	}, func(r *reading, of []figure) {
		r.m.mu.Lock()
		defer r.m.mu.Unlock()
		for name, at := range r.m.found.expiry {
			r.put(of[0], seconds(at), name)
		}
	}}
}

func poolFigures() figures {
	return figures{[]figure{
		gauge("pool_keys", "Keys that were fetched ahead and wait for messages."),
		counter("pool_requests_total", "Requests for keys that were made ahead."),
		counter("pool_failures_total", "Requests for keys ahead that brought none."),
		counter("pool_keys_fetched_total", "Keys that were fetched ahead."),
		counter("pool_keys_expired_total", "Keys fetched ahead that were too old and were wiped unused."),
		counter("pool_keys_discarded_total", "Keys fetched ahead that could not be used or kept and were wiped unused."),
	}, func(r *reading, of []figure) {
		s := r.pool
		for i, v := range []int64{int64(s.Stock), s.Requests, s.Failures, s.Fetched, s.Expired, s.Discarded} {
			r.put(of[i], float64(v))
		}
	}}
}

func kmeFigures() figures {
	return figures{[]figure{
		counter("km_failovers_total", "Questions that went on to another KME of this site."),
		counter("km_keys_burned_total", "Keys to encrypt with whose answer was lost: they are never used."),
		counter("km_keys_wasted_total", "Keys that arrived and were wiped unused."),
		counter("km_keys_gone_total", "Keys to decrypt with that the KME had no more after an answer was lost."),
	}, func(r *reading, of []figure) {
		s := r.kmes
		for i, v := range []int64{s.Failovers, s.Burned, s.Wasted, s.Gone} {
			r.put(of[i], float64(v))
		}
	}}
}

func storeFigures() figures {
	return figures{[]figure{
		counter("store_keys_fetched_total", "Keys to decrypt with that came from the key manager."),
		counter("store_keys_found_total", "Keys to decrypt with that were in the store already."),
		counter("store_keys_stored_total", "Keys to decrypt with that were stored."),
		counter("store_keys_bound_total", "Keys that were bound to their message."),
		counter("store_keys_closed_total", "Keys that were closed: deleted in the store."),
		counter("store_keys_closed_at_km_total", "Closed keys that the key manager was told of."),
		counter("store_sending_keys_total", "Keys to encrypt with whose IDs were recorded."),
		counter("store_deliveries_total", "Recipients that were recorded as having got their message."),
		counter("store_tombstones_removed_total", "Tombstones of closed keys that were removed for their age."),
		counter("store_errors_total", "Operations that failed for the store."),
		gauge("store_keys_waiting", "Keys that were fetched and could not be stored yet."),
		gauge("store_swept_timestamp_seconds", "When the store was last swept; when the relay started, if not yet."),
	}, func(r *reading, of []figure) {
		s := r.store
		for i, v := range []int64{s.Fetched, s.FromStore, s.Stored, s.Bound, s.Closed, s.ClosedAtKM, s.Claimed, s.Delivered, s.Tombstones, s.StoreErrors, int64(s.Waiting)} {
			r.put(of[i], float64(v))
		}
		swept := s.Swept
		if swept.IsZero() {
			swept = r.m.started
		}
		r.put(of[len(of)-1], seconds(swept))
	}}
}

func alarmFigures() figures {
	return figures{[]figure{
		counter("attack_alarms_total", "What looks like an attack: a key that belongs to another message (bound), a key that has served its purpose (closed), a key ID that has had its use here and comes again (reused), a key that the key manager gives out again with other bytes (changed).", "kind"),
	}, func(r *reading, of []figure) {
		r.put(of[0], float64(r.store.BoundRefused), "bound")
		r.put(of[0], float64(r.store.ClosedRefused), "closed")
		r.put(of[0], float64(r.store.Reused), "reused")
		r.put(of[0], float64(r.store.Changed), "changed")
	}}
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

// metricsHandler serves what a registry has; a few at a time.
func metricsHandler(reg *prometheus.Registry) http.Handler {
	return promhttp.HandlerFor(reg, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: 10 * time.Second, Registry: reg})
}
