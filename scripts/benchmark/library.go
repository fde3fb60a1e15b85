package main

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"strconv"
)

// shares runs the benchmarks of package cipher that compare a whole message with
// the suite's own cipher, both on one core and in memory.
func (b *bench) shares(ctx context.Context) error {
	benchTime := "2s"
	if b.quick {
		benchTime = "1x"
	}
	cmd := b.goCommand(ctx, "test", "-run", "^$", "-bench", "^BenchmarkShare$", "-benchtime", benchTime, "-cpu", "1", "./cipher")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("go test: %w: %s", err, out)
	}
	b.share = parseShares(string(out))
	if len(b.share) == 0 {
		return fmt.Errorf("go test: no shares in what it says: %s", out)
	}
	return nil
}

// parseShares reads lines as
//
//	BenchmarkShare/AES-256-GCM/encrypt  60  36131250 ns/op  0.4012 of-gcm
//
// and returns the last figure by "AES-256-GCM/encrypt".
func parseShares(text string) map[string]float64 {
	shares := map[string]float64{}
	line := regexp.MustCompile(`(?m)^BenchmarkShare/(\S+/(?:encrypt|decrypt))\S*\s.*?([0-9.]+) of-\S+`)
	for _, m := range line.FindAllStringSubmatch(text, -1) {
		if share, err := strconv.ParseFloat(m[2], 64); err == nil {
			shares[m[1]] = share
		}
	}
	return shares
}
