package admin

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/qkdmail/qkdmail/cmd/internal/kmsim"
	"github.com/qkdmail/qkdmail/cmd/internal/metrics"
)

// A Simulator has the metrics of a simulated key manager.
type Simulator struct {
	metrics  metrics.Set
	requests *metrics.Vec[metrics.Counter]
	keys     *metrics.Vec[metrics.Counter]
	took     *metrics.Vec[metrics.Histogram]
}

// NewSimulator returns one, whose Observe is for [kmsim.Options].
func NewSimulator(version string) *Simulator {
	s := &Simulator{}
	addProgram(&s.metrics, version)
	s.requests = s.metrics.Counters("qkdmail_simulator_requests_total", "Requests, by HTTP status; none where no answer was sent.", "kme", "operation", "status")
	s.keys = s.metrics.Counters("qkdmail_simulator_keys_total", "Keys that were handed out.", "kme", "operation")
	s.took = s.metrics.Histograms("qkdmail_simulator_request_duration_seconds", "How long answers took.",
		[]float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}, "kme", "operation")
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
	s.requests.With(kme, r.Operation, status).Add(1)
	s.took.With(kme, r.Operation).Observe(r.Took.Seconds())
	if r.Keys > 0 {
		s.keys.With(kme, r.Operation).Add(r.Keys)
	}
}

// Watch has the stocks of a simulator among the metrics. It is called once.
func (s *Simulator) Watch(stocks func() []kmsim.Stock) {
	s.metrics.Collect(func(r *metrics.Reading) {
		for _, stock := range stocks() {
			if stock.OnDemand {
				continue
			}
			saes := none
			if len(stock.SAEs) > 0 {
				saes = strings.Join(stock.SAEs, " ")
			}
			r.Gauge("qkdmail_simulator_key_stock", "Keys that a pair of SAEs has ready; absent where they are made on demand.", float64(stock.Ready), "saes", saes)
		}
	})
}

// Handler serves /metrics, /healthz and /readyz.
func (s *Simulator) Handler() http.Handler {
	mux := healthMux(func() []Check { return []Check{{"simulator", StateOK, "It serves.", ""}} })
	mux.Handle("GET /metrics", &s.metrics)
	return mux
}
