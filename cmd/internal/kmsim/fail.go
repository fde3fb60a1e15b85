package kmsim

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"

	"github.com/qkdmail/qkdmail/kmclient"
)

// A failRule is one thing that goes wrong at random.
type failRule struct {
	action      string
	status      int     // of HTTP, with failStatus
	probability float64 // 0 to 1, of each request
}

// The actions of a failRule; see [Options].Fail.
const (
	failStatus = "status"
	failCut    = "cut"
	failLost   = "lost"
)

// parseFail reads [Options].Fail.
func parseFail(text string) ([]failRule, error) {
	if text == "" {
		return nil, nil
	}
	var rules []failRule
	sum := 0.0
	for part := range strings.SplitSeq(text, ",") {
		rule, err := parsefailRule(strings.TrimSpace(part))
		if err != nil {
			return nil, err
		}
		sum += rule.probability
		rules = append(rules, rule)
	}
	if sum > 1+1e-9 {
		return nil, fmt.Errorf("%w: failures %q: the probabilities add up to more than 1", kmclient.ErrConfig, text)
	}
	return rules, nil
}

func parsefailRule(text string) (rule failRule, err error) {
	rule = failRule{action: failStatus, status: http.StatusServiceUnavailable}
	probability := text
	if action, p, ok := strings.Cut(text, ":"); ok {
		probability = p
		var code string
		rule.action, code, ok = strings.Cut(action, "=")
		rule.status = 0
		if ok {
			if rule.status, err = strconv.Atoi(code); err != nil {
				rule.status = -1
			}
		}
	}
	if rule.probability, err = strconv.ParseFloat(probability, 64); err != nil || !(rule.probability >= 0 && rule.probability <= 1) {
		return rule, fmt.Errorf("%w: failure %q: the probability must be 0 to 1", kmclient.ErrConfig, text)
	}
	switch {
	case rule.action == failStatus && rule.status >= 400 && rule.status <= 599:
	case (rule.action == failCut || rule.action == failLost) && rule.status == 0:
	default:
		return rule, fmt.Errorf("%w: failure %q: must be status=CODE (400 to 599), cut or lost", kmclient.ErrConfig, text)
	}
	return rule, nil
}

// strike chooses what goes wrong with one request; usually nothing.
func strike(rules []failRule) failRule {
	if len(rules) == 0 {
		return failRule{}
	}
	dice := rand.Float64()
	for _, r := range rules {
		if dice < r.probability {
			return r
		}
		dice -= r.probability
	}
	return failRule{}
}
