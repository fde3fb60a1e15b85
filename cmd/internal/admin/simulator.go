package admin

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/qkdmail/qkdmail/cmd/internal/kmsim"
)

// A Simulator has the metrics of a simulated key manager.
type Simulator struct {
	reg      *prometheus.Registry
	requests *prometheus.CounterVec
	keys     *prometheus.CounterVec
	took     *prometheus.HistogramVec
}

// NewSimulator returns the metrics. Their Observe is for [kmsim.Options].
func NewSimulator(version string) *Simulator {
	s := &Simulator{
		reg: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "qkdmail_simulator_requests_total", Help: "Requests, by HTTP status; none if no answer was sent.",
		}, []string{"kme", "operation", "status"}),
		keys: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "qkdmail_simulator_keys_total", Help: "Keys that were handed out.",
		}, []string{"kme", "operation"}),
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "qkdmail_simulator_request_duration_seconds", Help: "How long answers took.", Buckets: prometheus.DefBuckets,
		}, []string{"kme", "operation"}),
	}
	registerProcess(s.reg, version)
	s.reg.MustRegister(s.requests, s.keys, s.took)
	return s
}

// Observe counts a request.
func (s *Simulator) Observe(r kmsim.Request) {
	kme, status := r.KME, "none"
	if kme == "" {
		kme = none
	}
	if r.Status != 0 {
		status = strconv.Itoa(r.Status)
	}
	s.requests.WithLabelValues(kme, r.Operation, status).Inc()
	s.took.WithLabelValues(kme, r.Operation).Observe(r.Took.Seconds())
	if r.Keys > 0 {
		s.keys.WithLabelValues(kme, r.Operation).Add(float64(r.Keys))
	}
}

// Watch adds the stocks of a simulator to the metrics. It must be called only once.
func (s *Simulator) Watch(stocks func() []kmsim.Stock) {
	stock := gauge("simulator_key_stock", "Keys that a pair of SAEs has ready; absent where they are made on demand.", func(_ *reading, put put) {
		for _, s := range stocks() {
			switch {
			case s.OnDemand:
			case len(s.SAEs) == 0:
				put(float64(s.Ready), none)
			default:
				put(float64(s.Ready), strings.Join(s.SAEs, " "))
			}
		}
	}, "saes")
	s.reg.MustRegister(&collector{[]figure{stock}, func() *reading { return nil }})
}

// Handler serves /metrics, /healthz and /readyz.
func (s *Simulator) Handler() http.Handler {
	mux := healthMux(func() []Check { return []Check{{"simulator", StateOK, "It serves.", ""}} })
	mux.Handle("GET /metrics", metricsHandler(s.reg))
	return mux
}
