package terminal

import (
	"runtime/debug"
	"strings"
)

// Version returns what the Go toolchain has stamped into the program: the module's
// version, and the commit where that does not name it.
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
