package flags

import (
	"fmt"
	"os"
	"regexp"
	"strings"

	"github.com/spf13/pflag"
)

// Environment returns a variant of [os.Getenv] that hides variables overridden by
// flags on the command line.
func Environment(flags *pflag.FlagSet) func(string) string {
	return func(name string) string {
		flag := strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(name, "QKD_"), "_", "-"))
		if flags.Changed(flag) || name == "QKD_KM_HOST" && (flags.Changed("km") || os.Getenv("QKD_KM") != "") {
			return ""
		}
		return os.Getenv(name)
	}
}

// NameVariables adds to err the names of the environment variables whose values its
// text mentions.
func NameVariables(err error, getenv func(string) string) error {
	if err == nil {
		return nil
	}
	var names []string
	for _, name := range []string{"QKD_KM_HOST", "QKD_KM_CA", "QKD_KM_CERT", "QKD_KM_KEY", "QKD_KME_ID", "QKD_SAE", "QKD_PEER", "QKD_HYBRID", "QKD_HYBRID_KEY"} {
		if value := getenv(name); value != "" && !strings.Contains(err.Error(), name) && mentions(err.Error(), value) {
			names = append(names, name)
		}
	}
	if names == nil {
		return err
	}
	return fmt.Errorf("%w (from %s in the environment)", err, strings.Join(names, ", "))
}

// mentions reports whether value is in text other than as part of a longer word.
func mentions(text, value string) bool {
	whole := regexp.MustCompile(`(^|[^A-Za-z0-9_/.-])` + regexp.QuoteMeta(value) + `($|[^A-Za-z0-9_/-])`)
	return whole.MatchString(text)
}
