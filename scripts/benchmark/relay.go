package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// relayed is the relay in scripts/bench-relay whose requests to its key manager
// are looked at.
const relayed = "qkdmail, encrypt, ETSI 014"

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
	b.perMail, err = requestsPerMail(text)
	return err
}

// requestsPerMail reads the JSON of scripts/bench-relay and returns the requests
// of an encrypting relay to its key manager for a message, where they are most.
func requestsPerMail(text []byte) (float64, error) {
	var report struct {
		Rows []struct {
			Target     string  `json:"target"`
			KMRequests float64 `json:"km_requests"`
		} `json:"rows"`
	}
	if err := json.Unmarshal(text, &report); err != nil {
		return 0, err
	}
	most := 0.0
	for _, row := range report.Rows {
		if row.Target == relayed {
			most = max(most, row.KMRequests)
		}
	}
	if most == 0 {
		return 0, fmt.Errorf("no requests of %q to its key manager", relayed)
	}
	return most, nil
}
