package metrics

import (
	"bufio"
	"math"
	"net/http"
	"strconv"
	"strings"
)

// ServeHTTP serves all metrics.
func (s *Set) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	b := bufio.NewWriter(w)
	for _, f := range s.Gather() {
		f.write(b)
	}
	_ = b.Flush() // the caller has gone
}

// write writes f; b keeps its error.
func (f *Family) write(b *bufio.Writer) {
	help := strings.NewReplacer(`\`, `\\`, "\n", `\n`).Replace(f.Help)
	_, _ = b.WriteString("# HELP " + f.Name + " " + help + "\n# TYPE " + f.Name + " " + f.Type + "\n")
	escape := strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`)
	for _, s := range f.Samples {
		var labels []string
		for _, l := range s.Labels {
			labels = append(labels, l.Name+`="`+escape.Replace(l.Value)+`"`)
		}
		if s.At.Name != "" {
			labels = append(labels, s.At.Name+`="`+s.At.Value+`"`)
		}
		name := f.Name + s.Suffix
		if labels != nil {
			name += "{" + strings.Join(labels, ",") + "}"
		}
		_, _ = b.WriteString(name + " " + text(s.Value) + "\n")
	}
}

// text is a number in the format.
func text(n float64) string {
	if math.IsInf(n, 1) {
		return "+Inf"
	}
	return strconv.FormatFloat(n, 'g', -1, 64)
}
