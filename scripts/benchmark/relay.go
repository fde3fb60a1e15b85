package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Names that scripts/bench-relay gives to relays and ways.
const (
	relayEncrypt = "qkdmail, encrypt"
	relayDecrypt = "qkdmail, decrypt"
	relayETSI    = "qkdmail, encrypt, ETSI 014"
	relayStore   = "qkdmail, decrypt, ETSI 014, SQLite"
	relayPostfix = "Postfix, with its queue"

	wayKept, wayNew, wayPipelined = "kept", "new", "pipelined"
)

// relay runs the relay's own measurement, and keeps its tables.
func (b *bench) relay(ctx context.Context) error {
	figures := filepath.Join(b.dir, "relay.json")
	args := []string{"-rounds", strconv.Itoa(b.rounds), "-json", figures}
	if b.quick {
		args = append(args, "-scale", "0.02")
	}
	cmd := exec.CommandContext(ctx, filepath.Join(b.root, "scripts", "bench-relay"), args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return err
	}
	b.relayTables = strings.TrimSpace(string(out))
	text, err := os.ReadFile(figures)
	if os.IsNotExist(err) {
		return nil // it has said what it lacks
	}
	if err != nil {
		return err
	}
	b.relayRows, err = readRelay(text)
	return err
}

// A relayRow is what was measured of one relay in one way.
type relayRow struct {
	Target     string  `json:"target"`
	Mode       string  `json:"mode"`
	Octets     int     `json:"octets"`
	Rate       float64 `json:"messages_per_second"`
	Ratio      float64 `json:"ratio"` // of its rate to that of the pass-through, in the same round
	KMRequests float64 `json:"km_requests"`
}

// readRelay reads the JSON of scripts/bench-relay.
func readRelay(text []byte) ([]relayRow, error) {
	var report struct {
		Rows []relayRow `json:"rows"`
	}
	if err := json.Unmarshal(text, &report); err != nil {
		return nil, err
	}
	if len(report.Rows) == 0 {
		return nil, errors.New("scripts/bench-relay has measured no relay")
	}
	return report.Rows, nil
}

// relayAims are those of the relay.
func (r *results) relayAims() []aim {
	var all []aim
	for _, t := range []struct {
		relay, way string
		octets     int
		limit      float64
	}{
		{relayEncrypt, wayKept, 50_000, 1.5}, {relayDecrypt, wayKept, 50_000, 1.5},
		{relayEncrypt, wayKept, 4000, 1.2}, {relayDecrypt, wayKept, 4000, 1.2},
		{relayEncrypt, wayNew, 4000, 1}, {relayDecrypt, wayNew, 4000, 1},
		{relayEncrypt, wayNew, 50_000, 1}, {relayDecrypt, wayNew, 50_000, 1},
		{relayStore, wayPipelined, 4000, 0.5}, {relayStore, wayPipelined, 50_000, 0.5},
	} {
		row, ok := r.relayRow(t.relay, t.way, t.octets)
		all = append(all, aim{
			what:  fmt.Sprintf("%s, connections %s, %s: messages a second, of the pass-through's", t.relay, t.way, sizeName(t.octets)),
			limit: t.limit, atLeast: true, figure: row.Ratio, known: ok,
		})
	}
	for _, octets := range []int{4000, 50_000} {
		own, ok := r.relayRow(relayEncrypt, wayKept, octets)
		postfix, there := r.relayRow(relayPostfix, wayKept, octets)
		all = append(all, aim{
			what:  fmt.Sprintf("%s, connections %s, %s: messages a second, of Postfix's", relayEncrypt, wayKept, sizeName(octets)),
			limit: 4, atLeast: true, figure: own.Rate / max(postfix.Rate, 1), known: ok && there,
		})
	}
	most := 0.0
	for _, row := range r.relayRows {
		if row.Target == relayETSI {
			most = max(most, row.KMRequests)
		}
	}
	return append(all, aim{what: "encrypting relay: requests to the key manager for a message", limit: 0.02, figure: most, known: most != 0})
}

func (r *results) relayRow(relay, way string, octets int) (relayRow, bool) {
	i := slices.IndexFunc(r.relayRows, func(row relayRow) bool {
		return row.Target == relay && row.Mode == way && row.Octets == octets
	})
	if i < 0 {
		return relayRow{}, false
	}
	return r.relayRows[i], true
}
