package admin

import (
	"cmp"
	"net/http"
	"runtime"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/etsi014"
	"github.com/qkdmail/qkdmail/kmclient/keypool"
	"github.com/qkdmail/qkdmail/kmclient/keystore"
)

// A figure is a metric that is read each time Prometheus asks for it.
type figure struct {
	kind prometheus.ValueType
	desc *prometheus.Desc
	read func(*reading, put)
}

// A put takes a current value of a figure.
type put func(value float64, labels ...string)

// A reading is the data that the figures are read from.
type reading struct {
	m     *Monitor
	found findings
	store keystore.Stats
	pool  keypool.Stats
	kmes  etsi014.Stats
}

// counter is a figure with one value, which only grows.
func counter(name, help string, value func(*reading) int64) figure {
	return newFigure(prometheus.CounterValue, name, help, func(r *reading, put put) { put(float64(value(r))) })
}

// gauge is a figure that may have several values, by its labels.
func gauge(name, help string, read func(*reading, put), labels ...string) figure {
	return newFigure(prometheus.GaugeValue, name, help, read, labels...)
}

func newFigure(kind prometheus.ValueType, name, help string, read func(*reading, put), labels ...string) figure {
	return figure{kind, prometheus.NewDesc("qkdmail_"+name, help, labels, nil), read}
}

// A collector gives figures to Prometheus.
type collector struct {
	figures []figure
	reading func() *reading
}

// Describe describes all figures.
func (c *collector) Describe(out chan<- *prometheus.Desc) {
	for _, f := range c.figures {
		out <- f.desc
	}
}

// Collect reads all figures. It asks nothing outside this process.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	r := c.reading()
	for _, f := range c.figures {
		f.read(r, func(value float64, labels ...string) {
			out <- prometheus.MustNewConstMetric(f.desc, f.kind, value, labels...)
		})
	}
}

// registerFigures registers the figures that are read elsewhere, not counted here.
func (m *Monitor) registerFigures() {
	registerProcess(m.reg, m.s.Version)
	all := slices.Concat(checkFigures(), keyFigures(), hybridFigures(), alarmFigures())
	if m.s.Pool != nil {
		all = append(all, poolFigures()...)
	}
	if m.s.KMEs != nil {
		all = append(all, kmeFigures()...)
	}
	if m.s.Store != nil {
		all = append(all, storeFigures()...)
	}
	m.reg.MustRegister(&collector{all, m.reading})
}

func (m *Monitor) reading() *reading {
	r := &reading{m: m, found: m.lastFound(), store: m.storeStats()}
	if m.s.Pool != nil {
		r.pool = m.s.Pool()
	}
	if m.s.KMEs != nil {
		r.kmes = m.s.KMEs()
	}
	return r
}

// registerProcess registers the metrics of every program: those of Go, of the
// process and of the build.
func registerProcess(reg *prometheus.Registry, version string) {
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "qkdmail_build_info", Help: "Always 1; the labels say which program this is.",
			ConstLabels: prometheus.Labels{"version": version, "go_version": runtime.Version()},
		}, func() float64 { return 1 }))
}

func checkFigures() []figure {
	return []figure{
		gauge("ready", "1 if mail can be expected to flow, as /readyz says.", func(r *reading, put put) {
			put(truth(Ready(r.m.Checks())))
		}),
		gauge("km_up", "1 if the key manager reports the status of the link to a peer.", func(r *reading, put put) {
			for name, l := range r.found.peers {
				put(truth(l.err == nil), name)
			}
		}, "peer"),
		gauge("km_post_quantum", "1 if TLS to a KME agrees on keys with a post-quantum group, so that traffic recorded today stays unreadable.", func(r *reading, put put) {
			for _, c := range r.found.connections() {
				put(truth(c.PostQuantum()), c.KME, cmp.Or(c.TLS, none), cmp.Or(c.Group, none))
			}
		}, "kme", "tls", "group"),
		gauge("next_hop_up", "1 if a next hop can be reached.", func(r *reading, put put) {
			for name, err := range r.found.hops {
				put(truth(err == nil), name)
			}
		}, "next_hop"),
		gauge("store_up", "1 if the key store can be written to; absent where there is none.", func(r *reading, put put) {
			if r.hasStore() {
				put(truth(r.found.store == nil))
			}
		}),
		gauge("store_warnings", "Number of warnings about the server of the store; the status page shows them.", func(r *reading, put put) {
			if r.hasStore() {
				put(float64(len(r.m.storeWarnings())))
			}
		}),
		gauge("config_last_reload_successful", "1 if the newest configuration, with its X-Wing keys, is in force; 0 if it can't be used.", func(r *reading, put put) {
			put(truth(!r.m.notNew.Load()))
		}),
		gauge("certificate_expiry_timestamp_seconds", "When a certificate of this site expires.", func(r *reading, put put) {
			for name, at := range r.found.expiry {
				put(seconds(at), name)
			}
		}, "certificate"),
	}
}

// hasStore reports whether there is a store that has been checked.
func (r *reading) hasStore() bool { return r.m.s.Store != nil && !r.found.at.IsZero() }

func keyFigures() []figure {
	return []figure{
		gauge("key_stock", "Keys that the key manager has ready for a peer that mail is encrypted for; absent where it makes them on demand.", func(r *reading, put put) {
			r.eachStock(func(peer string, s kmclient.Status) { put(float64(*s.StoredKeys), peer) })
		}, "peer"),
		gauge("key_stock_capacity", "Keys that the key manager can have ready for a peer that mail is encrypted for; absent where it does not say.", func(r *reading, put put) {
			r.eachStock(func(peer string, s kmclient.Status) {
				if s.MaxKeys > 0 {
					put(float64(s.MaxKeys), peer)
				}
			})
		}, "peer"),
	}
}

// eachStock calls each with the stock of each peer that mail is encrypted for. A
// lack of keys for the others must raise no alert.
func (r *reading) eachStock(each func(peer string, s kmclient.Status)) {
	for _, name := range r.m.encryptedFor() {
		if l, ok := r.found.peers[name]; ok && l.hasStock() {
			each(name, l.status)
		}
	}
}

func poolFigures() []figure {
	return []figure{
		gauge("pool_keys", "Keys that were fetched ahead and wait for messages.", func(r *reading, put put) { put(float64(r.pool.Stock)) }),
		counter("pool_requests_total", "Requests for keys ahead of need.", func(r *reading) int64 { return r.pool.Requests }),
		counter("pool_failures_total", "Requests for keys ahead of need that brought none.", func(r *reading) int64 { return r.pool.Failures }),
		counter("pool_keys_fetched_total", "Keys that were fetched ahead.", func(r *reading) int64 { return r.pool.Fetched }),
		counter("pool_keys_expired_total", "Keys fetched ahead that were too old and were wiped unused.", func(r *reading) int64 { return r.pool.Expired }),
		counter("pool_keys_discarded_total", "Keys fetched ahead that could not be used or kept and were wiped unused.", func(r *reading) int64 { return r.pool.Discarded }),
	}
}

func kmeFigures() []figure {
	return []figure{
		counter("km_failovers_total", "Requests that went to another KME of this site after one had failed.", func(r *reading) int64 { return r.kmes.Failovers }),
		counter("km_keys_burned_total", "Keys for encryption that were lost with an answer; they are never used.", func(r *reading) int64 { return r.kmes.Burned }),
		counter("km_keys_wasted_total", "Keys that arrived and were wiped unused.", func(r *reading) int64 { return r.kmes.Wasted }),
		counter("km_keys_gone_total", "Keys for decryption that the KME no longer had after an answer was lost.", func(r *reading) int64 { return r.kmes.Gone }),
	}
}

func storeFigures() []figure {
	return []figure{
		counter("store_keys_fetched_total", "Keys for decryption that came from the key manager.", func(r *reading) int64 { return r.store.Fetched }),
		counter("store_keys_found_total", "Keys for decryption that were in the store already.", func(r *reading) int64 { return r.store.FromStore }),
		counter("store_keys_stored_total", "Keys for decryption that were stored.", func(r *reading) int64 { return r.store.Stored }),
		counter("store_keys_bound_total", "Keys that were bound to their message.", func(r *reading) int64 { return r.store.Bound }),
		counter("store_keys_closed_total", "Keys that were closed: deleted in the store.", func(r *reading) int64 { return r.store.Closed }),
		counter("store_keys_closed_at_km_total", "Closed keys that were closed at the key manager as well.", func(r *reading) int64 { return r.store.ClosedAtKM }),
		counter("store_sending_keys_total", "Keys for encryption whose IDs were recorded.", func(r *reading) int64 { return r.store.Claimed }),
		counter("store_deliveries_total", "Recipients recorded as having received their message.", func(r *reading) int64 { return r.store.Delivered }),
		counter("store_tombstones_removed_total", "Tombstones of closed keys removed because of their age.", func(r *reading) int64 { return r.store.Tombstones }),
		counter("store_errors_total", "Operations that failed because of the store.", func(r *reading) int64 { return r.store.StoreErrors }),
		gauge("store_keys_waiting", "Keys that were fetched and could not be stored yet.", func(r *reading, put put) { put(float64(r.store.Waiting)) }),
		gauge("store_swept_timestamp_seconds", "When the store was last swept; before that, when the relay started.", func(r *reading, put put) {
			if r.store.Swept.IsZero() {
				put(seconds(r.m.started))
			} else {
				put(seconds(r.store.Swept))
			}
		}),
	}
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

// metricsHandler serves the metrics of a registry, a few requests at a time.
func metricsHandler(reg *prometheus.Registry) http.Handler {
	return promhttp.HandlerFor(reg, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: 10 * time.Second, Registry: reg})
}
