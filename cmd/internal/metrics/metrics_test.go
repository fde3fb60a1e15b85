package metrics

import (
	"math"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestServe compares all that a set serves.
func TestServe(t *testing.T) {
	var s Set
	mail := s.Counters("mail_total", "Messages.", "way", "peer")
	mail.With("out", "b").Add(2)
	mail.With("out", `a "quoted" \ name`+"\n").Add(1)
	mail.With("in", "b")
	size := s.Histograms("size_bytes", "Sizes.\nOf messages, \\ and all.", []float64{10, 1 << 20}, "way")
	for _, n := range []float64{1, 10, 11, 1 << 21} {
		size.With("out").Observe(n)
	}
	s.Counters("unused_total", "Nothing was counted.")
	s.Collect(func(r *Reading) {
		r.Gauge("keys", "Keys in stock.", 0.5, "peer", "b", "link", "fibre")
		r.Gauge("keys", "Keys in stock.", 7, "peer", "a", "link", "fibre")
		r.Gauge("above_all", "No label.", math.Inf(1))
	})
	w := httptest.NewRecorder()
	s.ServeHTTP(w, nil)
	const want = `# HELP above_all No label.
# TYPE above_all gauge
above_all +Inf
# HELP keys Keys in stock.
# TYPE keys gauge
keys{link="fibre",peer="a"} 7
keys{link="fibre",peer="b"} 0.5
# HELP mail_total Messages.
# TYPE mail_total counter
mail_total{peer="a \"quoted\" \\ name\n",way="out"} 1
mail_total{peer="b",way="in"} 0
mail_total{peer="b",way="out"} 2
# HELP size_bytes Sizes.\nOf messages, \\ and all.
# TYPE size_bytes histogram
size_bytes_bucket{way="out",le="10"} 2
size_bytes_bucket{way="out",le="1.048576e+06"} 3
size_bytes_bucket{way="out",le="+Inf"} 4
size_bytes_sum{way="out"} 2.097174e+06
size_bytes_count{way="out"} 4
`
	if got := w.Body.String(); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	if got := w.Header().Get("Content-Type"); got != "text/plain; version=0.0.4; charset=utf-8" {
		t.Errorf("Content-Type %q", got)
	}
}

// TestCountAtOnce counts from many goroutines while another reads.
func TestCountAtOnce(t *testing.T) {
	var s Set
	counters, histograms := s.Counters("c_total", "", "way"), s.Histograms("h", "", []float64{1}, "way")
	const workers, each = 8, 1000
	var work sync.WaitGroup
	for range workers {
		work.Go(func() {
			for range each {
				counters.With("in").Add(1)
				histograms.With("in").Observe(2)
			}
		})
	}
	work.Go(func() { s.Gather() })
	work.Wait()
	for _, f := range s.Gather() {
		want := map[string]float64{"": workers * each, "_count": workers * each, "_sum": 2 * workers * each, "_bucket": 0}
		for _, v := range f.Samples {
			n := want[v.Suffix]
			if v.At.Value == "+Inf" {
				n = workers * each
			}
			if v.Value != n {
				t.Errorf("%s%s %v: %v, want %v", f.Name, v.Suffix, v.At, v.Value, n)
			}
		}
	}
}

// TestProgram reads what Go and the kernel say of this process.
func TestProgram(t *testing.T) {
	var r Reading
	Runtime(&r)
	Process(&r)
	value := func(name string) float64 {
		t.Helper()
		if f := r.families[name]; f != nil {
			return f.Samples[0].Value
		}
		t.Errorf("%s is absent", name)
		return 0
	}
	if n := value("go_goroutines"); n < 1 {
		t.Errorf("%v goroutines", n)
	}
	if n := value("go_memstats_heap_alloc_bytes"); n < 1<<10 {
		t.Errorf("%v bytes in the heap", n)
	}
	if runtime.GOOS != "linux" {
		return
	}
	if n := value("process_resident_memory_bytes"); n < 1<<20 || n > value("process_virtual_memory_bytes") {
		t.Errorf("%v bytes resident", n)
	}
	if age := time.Since(time.UnixMilli(int64(value("process_start_time_seconds") * 1000))); age < -2*time.Second || age > time.Hour {
		t.Errorf("started %v ago", age)
	}
	if n := value("process_open_fds"); n < 3 || n > value("process_max_fds") {
		t.Errorf("%v open files", n)
	}
	if n := value("process_cpu_seconds_total"); n <= 0 {
		t.Errorf("%v seconds", n)
	}
}

// The name of a program may have blanks and parentheses.
func TestOwnStat(t *testing.T) {
	before, err := os.ReadFile("/proc/self/comm")
	if err != nil {
		t.Skip("no /proc")
	}
	rename := func(name string) {
		if err := os.WriteFile("/proc/self/comm", []byte(name), 0); err != nil {
			t.Fatal(err)
		}
	}
	rename("a (b) c")
	defer rename(strings.TrimSpace(string(before)))
	var r Reading
	Process(&r)
	if f := r.families["process_resident_memory_bytes"]; f == nil || f.Samples[0].Value < 1<<20 {
		t.Errorf("%+v", f)
	}
}
