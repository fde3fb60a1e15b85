package terminal

import (
	"runtime/debug"
	"strings"
)

// Version returns the module version that the Go toolchain stamped into the
// program, and the commit if the version does not name it.
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "(devel)"
	}
	text := info.Main.Version
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && !strings.Contains(text, s.Value[:min(12, len(s.Value))]) {
			text += " (" + s.Value + ")"
		}
	}
	return text
}
