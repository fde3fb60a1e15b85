package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
)

// A report is the JSON of a measurement. All figures of a row are medians of the
// rounds; a ratio is the median of the ratios to the pass-through in the same
// round, in the same mode and with messages of the same size.
type report struct {
	Sessions int      `json:"sessions"`
	Rounds   int      `json:"rounds"`
	CPUs     int      `json:"cpus"`
	Go       string   `json:"go"`
	Skipped  []string `json:"skipped,omitempty"`
	Rows     []row    `json:"rows"`
}

// A row is a target in one mode with messages of one size.
type row struct {
	Target string  `json:"target"`
	Mode   mode    `json:"mode"`
	Octets int     `json:"octets"`
	Rate   float64 `json:"messages_per_second"`
	Ratio  float64 `json:"ratio"`
	Low    float64 `json:"ratio_low"` // of one round
	High   float64 `json:"ratio_high"`

	// Of the relay's process; left out where it is not ours. Times are a message.
	CPU       float64            `json:"cpu_us,omitempty"`
	Memory    int                `json:"peak_memory_kib,omitempty"` // of the whole run
	Total     float64            `json:"total_us,omitempty"`        // from MAIL to the answer
	Keys      float64            `json:"keys_us,omitempty"`         // of it, for the key manager and the key store
	NextHop   float64            `json:"next_hop_us,omitempty"`     // of it, for the answer to the message
	KMRequest float64            `json:"km_requests"`               // a message
	Calls     map[string]float64 `json:"system_calls,omitempty"`    // a message
}

// report writes the results for people, and as JSON where that is asked for.
func (b *bench) report(out io.Writer) error {
	r := report{Sessions: b.sessions, Rounds: b.rounds, CPUs: runtime.NumCPU(), Go: runtime.Version(), Skipped: b.skipped}
	for _, m := range modes {
		for _, size := range sizes {
			for _, t := range b.targets {
				if k := (result{m, size.octets}); len(t.results[k]) > 0 {
					r.Rows = append(r.Rows, b.row(t, k))
				}
			}
		}
	}
	r.table(out)
	if b.json == "" {
		return nil
	}
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(b.json, append(text, '\n'), 0o644)
}

func (b *bench) row(t *target, k result) row {
	var rates, ratios, cpus, requests, total, keys, hop []float64
	us := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }
	for i, r := range t.results[k] {
		rates = append(rates, r.rate)
		ratios = append(ratios, r.rate/b.targets[passThrough].results[k][i].rate)
		cpus, requests = append(cpus, us(r.cpu)), append(requests, r.requests)
		total, keys, hop = append(total, us(r.waits.Total)), append(keys, us(r.waits.Keys)), append(hop, us(r.waits.Hop))
	}
	return row{
		Target: t.name, Mode: k.mode, Octets: k.size,
		Rate: median(rates), Ratio: median(ratios), Low: slices.Min(ratios), High: slices.Max(ratios),
		CPU: median(cpus), Memory: t.peak, KMRequest: median(requests),
		Total: median(total), Keys: median(keys), NextHop: median(hop), Calls: t.calls[k],
	}
}

// table prints a Markdown table for each mode.
func (r *report) table(out io.Writer) {
	for _, s := range r.Skipped {
		fmt.Fprintf(out, "SKIPPED: %s\n", s)
	}
	fmt.Fprintf(out, "%d sessions, %d rounds, medians; the ratio is to the pass-through in the same round.\n", r.Sessions, r.Rounds)
	for _, m := range modes {
		rows := slices.DeleteFunc(slices.Clone(r.Rows), func(row row) bool { return row.Mode != m })
		if len(rows) == 0 {
			continue
		}
		fmt.Fprintf(out, "\n%s:\n\n| between source and sink |", map[mode]string{
			kept:      "Connections are kept, each command waits for its answer",
			perMail:   "A connection for each message",
			pipelined: "Connections are kept, commands are pipelined",
		}[m])
		for _, s := range sizes {
			fmt.Fprintf(out, " %d kB: messages/s | ratio | CPU of it, µs |", s.octets/1000)
		}
		fmt.Fprint(out, "\n|---|"+strings.Repeat("---:|---:|---:|", len(sizes))+"\n")
		for _, first := range rows {
			if first.Octets != rows[0].Octets {
				continue
			}
			fmt.Fprintf(out, "| %s |", first.Target)
			for _, s := range sizes {
				fmt.Fprint(out, cells(rows, first.Target, s.octets))
			}
			fmt.Fprintln(out)
		}
	}
	r.details(out)
}

func cells(rows []row, target string, octets int) string {
	i := slices.IndexFunc(rows, func(r row) bool { return r.Target == target && r.Octets == octets })
	if i < 0 {
		return " – | – | – |"
	}
	cpu := "–"
	if rows[i].CPU > 0 {
		cpu = fmt.Sprintf("%.0f", rows[i].CPU)
	}
	return fmt.Sprintf(" %.0f | %.0f %% | %s |", rows[i].Rate, 100*rows[i].Ratio, cpu)
}

// details says where the time of each relay goes.
func (r *report) details(out io.Writer) {
	fmt.Fprint(out, "\nA message in the relay, from MAIL to the answer, with the other sessions waiting beside it:\n\n"+
		"| relay | mode | size | ms | of it for keys | for the next hop's answer | requests to the key manager | system calls | peak memory |\n"+
		"|---|---|---:|---:|---:|---:|---:|---:|---:|\n")
	for _, row := range r.Rows {
		if row.Total == 0 && row.Calls == nil {
			continue
		}
		calls := "–"
		if row.Calls != nil {
			calls = fmt.Sprintf("%.1f reads, %.1f writes", row.Calls["read"], row.Calls["write"])
		}
		fmt.Fprintf(out, "| %s | %s | %d kB | %.2f | %.2f | %.2f | %.3f | %s | %d MiB |\n", row.Target, row.Mode, row.Octets/1000,
			row.Total/1000, row.Keys/1000, row.NextHop/1000, row.KMRequest, calls, row.Memory>>10)
	}
}

func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	slices.Sort(v)
	return (v[len(v)/2] + v[(len(v)-1)/2]) / 2
}
