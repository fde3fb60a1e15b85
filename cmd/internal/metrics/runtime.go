package metrics

import (
	"runtime"
	"runtime/debug"
	"time"
)

// Runtime reads what Go's runtime says of itself, by the names that Prometheus's own
// library for Go gives it.
func Runtime(r *Reading) {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	threads, _ := runtime.ThreadCreateProfile(nil)
	r.Gauge("go_info", "Information about the Go environment.", 1, "version", runtime.Version())
	r.Gauge("go_goroutines", "Number of goroutines that currently exist.", float64(runtime.NumGoroutine()))
	r.Gauge("go_threads", "Number of OS threads created.", float64(threads))
	r.Gauge("go_sched_gomaxprocs_threads", "Number of OS threads that can execute Go code at the same time.", float64(runtime.GOMAXPROCS(0)))
	r.Gauge("go_gc_gomemlimit_bytes", "Memory limit of the Go runtime.", float64(debug.SetMemoryLimit(-1)))
	for _, g := range []struct {
		name, help string
		value      uint64
	}{
		{"alloc_bytes", "Number of bytes allocated in heap and currently in use.", m.Alloc},
		{"buck_hash_sys_bytes", "Number of bytes used by the profiling bucket hash table.", m.BuckHashSys},
		{"gc_sys_bytes", "Number of bytes used for garbage collection system metadata.", m.GCSys},
		{"heap_alloc_bytes", "Number of heap bytes allocated and currently in use.", m.HeapAlloc},
		{"heap_idle_bytes", "Number of heap bytes waiting to be used.", m.HeapIdle},
		{"heap_inuse_bytes", "Number of heap bytes that are in use.", m.HeapInuse},
		{"heap_objects", "Number of currently allocated objects.", m.HeapObjects},
		{"heap_released_bytes", "Number of heap bytes released to OS.", m.HeapReleased},
		{"heap_sys_bytes", "Number of heap bytes obtained from system.", m.HeapSys},
		{"mcache_inuse_bytes", "Number of bytes in use by mcache structures.", m.MCacheInuse},
		{"mcache_sys_bytes", "Number of bytes used for mcache structures obtained from system.", m.MCacheSys},
		{"mspan_inuse_bytes", "Number of bytes in use by mspan structures.", m.MSpanInuse},
		{"mspan_sys_bytes", "Number of bytes used for mspan structures obtained from system.", m.MSpanSys},
		{"next_gc_bytes", "Number of heap bytes when next garbage collection will take place.", m.NextGC},
		{"other_sys_bytes", "Number of bytes used for other system allocations.", m.OtherSys},
		{"stack_inuse_bytes", "Number of bytes obtained from system for stack allocator.", m.StackInuse},
		{"stack_sys_bytes", "Number of bytes obtained from system for stacks.", m.StackSys},
		{"sys_bytes", "Number of bytes obtained from system.", m.Sys},
	} {
		r.Gauge("go_memstats_"+g.name, g.help, float64(g.value))
	}
	r.Gauge("go_memstats_last_gc_time_seconds", "Number of seconds since 1970 of last garbage collection.", float64(m.LastGC)/1e9)
	r.Counter("go_memstats_alloc_bytes_total", "Total number of bytes allocated in heap until now, even if released already.", float64(m.TotalAlloc))
	r.Counter("go_memstats_frees_total", "Total number of heap objects freed.", float64(m.Frees))
	r.Counter("go_memstats_mallocs_total", "Total number of heap objects allocated.", float64(m.Mallocs))
	pauses(r)
}

func pauses(r *Reading) {
	s := debug.GCStats{PauseQuantiles: make([]time.Duration, 5)}
	debug.ReadGCStats(&s)
	var samples []Sample
	for i, d := range s.PauseQuantiles {
		samples = append(samples, Sample{At: Label{"quantile", text(float64(i) / 4)}, Value: d.Seconds()})
	}
	r.put(TypeSummary, "go_gc_duration_seconds", "Pauses of the program for garbage collection.", append(samples,
		Sample{Suffix: "_sum", Value: s.PauseTotal.Seconds()}, Sample{Suffix: "_count", Value: float64(s.NumGC)})...)
}
