package metrics

import (
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ticks is how many ticks a second has in /proc (USER_HZ).
const ticks = 100

// Process reads what the kernel says of this process, by the names of Prometheus's
// libraries. What can't be read is absent.
func Process(r *Reading) {
	var used unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &used) == nil {
		r.Counter("process_cpu_seconds_total", "Total user and system CPU time spent in seconds.",
			float64(used.Utime.Nano()+used.Stime.Nano())/1e9)
	}
	limit := func(which int, name, help string) {
		var l unix.Rlimit
		if unix.Getrlimit(which, &l) == nil {
			r.Gauge(name, help, float64(l.Cur))
		}
	}
	limit(unix.RLIMIT_NOFILE, "process_max_fds", "Maximum number of open file descriptors.")
	limit(unix.RLIMIT_AS, "process_virtual_memory_max_bytes", "Maximum amount of virtual memory available in bytes.")
	if fds, err := os.ReadDir("/proc/self/fd"); err == nil {
		r.Gauge("process_open_fds", "Number of open file descriptors.", float64(len(fds)))
	}
	stat := ownStat()
	if stat == nil {
		return
	}
	r.Gauge("process_virtual_memory_bytes", "Virtual memory size in bytes.", stat[22])
	r.Gauge("process_resident_memory_bytes", "Resident memory size in bytes.", stat[23]*float64(os.Getpagesize()))
	if boot := bootTime(); boot > 0 {
		r.Gauge("process_start_time_seconds", "Start time of the process since unix epoch in seconds.", boot+stat[21]/ticks)
	}
}

// ownStat returns the fields of /proc/self/stat, numbered as in proc_pid_stat(5) but from
// 0; those that are no numbers are 0.
func ownStat() []float64 {
	line, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		return nil
	}
	text := string(line)
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:]) // the name before may have blanks
	values := make([]float64, 2, 2+len(fields))
	for _, field := range fields {
		v, _ := strconv.ParseFloat(field, 64)
		values = append(values, v)
	}
	if len(values) < 24 {
		return nil
	}
	return values
}

// bootTime returns when the machine was started, in Unix seconds; 0 if that can't be
// read.
func bootTime() float64 {
	text, _ := os.ReadFile("/proc/stat")
	for line := range strings.Lines(string(text)) {
		if at, ok := strings.CutPrefix(line, "btime "); ok {
			seconds, _ := strconv.ParseFloat(strings.TrimSpace(at), 64)
			return seconds
		}
	}
	return 0
}
