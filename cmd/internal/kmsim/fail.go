package kmsim

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"

	"github.com/qkdmail/qkdmail/kmclient"
)

// A FailRule is one thing that goes wrong at random.
type FailRule struct {
	Action      string  // "status", "cut" or "lost"; see ParseFail
	Status      int     // HTTP status, with "status"
	Probability float64 // 0 to 1, of each request
}

// The actions of a FailRule.
const (
	failStatus = "status"
	failCut    = "cut"
	failLost   = "lost"
)

// ParseFail reads what [Options].Fail says: rules with commas between,
// each ACTION:PROBABILITY or PROBABILITY alone, which is status=503. Actions:
//
//	status=CODE  answers with that HTTP status (400 to 599), and does nothing
//	cut          closes the connection without an answer, and does nothing
//	lost         does what was asked for and closes the connection without an
//	             answer: keys are used up that nobody has got
//
// With HTTP/2 it is the stream that is closed. At most one rule applies to a request, so that the probabilities add up; to
// at most 1. Examples: "0.1" and "status=503:0.1,lost:0.01".
func ParseFail(text string) ([]FailRule, error) {
	if text == "" {
		return nil, nil
	}
	var rules []FailRule
	sum := 0.0
	for part := range strings.SplitSeq(text, ",") {
		rule, err := parseFailRule(strings.TrimSpace(part))
		if err != nil {
			return nil, err
		}
		sum += rule.Probability
		rules = append(rules, rule)
	}
	if sum > 1+1e-9 {
		return nil, fmt.Errorf("%w: failures %q: the probabilities add up to more than 1", kmclient.ErrConfig, text)
	}
	return rules, nil
}

func parseFailRule(text string) (rule FailRule, err error) {
	rule = FailRule{Action: failStatus, Status: http.StatusServiceUnavailable}
	probability := text
	if action, p, ok := strings.Cut(text, ":"); ok {
		probability = p
		var code string
		rule.Action, code, ok = strings.Cut(action, "=")
		rule.Status = 0
		if ok {
			if rule.Status, err = strconv.Atoi(code); err != nil {
				rule.Status = -1
			}
		}
	}
	if rule.Probability, err = strconv.ParseFloat(probability, 64); err != nil || !(rule.Probability >= 0 && rule.Probability <= 1) {
		return rule, fmt.Errorf("%w: failure %q: the probability must be 0 to 1", kmclient.ErrConfig, text)
	}
	switch {
	case rule.Action == failStatus && rule.Status >= 400 && rule.Status <= 599:
	case (rule.Action == failCut || rule.Action == failLost) && rule.Status == 0:
	default:
		return rule, fmt.Errorf("%w: failure %q: must be status=CODE (400 to 599), cut or lost", kmclient.ErrConfig, text)
	}
	return rule, nil
}

// strike chooses what goes wrong with one request; usually nothing.
func strike(rules []FailRule) FailRule {
	if len(rules) == 0 {
		return FailRule{}
	}
	dice := rand.Float64()
	for _, r := range rules {
		if dice < r.Probability {
			return r
		}
		dice -= r.Probability
	}
	return FailRule{}
}
