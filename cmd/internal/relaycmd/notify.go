package relaycmd

import (
	"log/slog"

	systemd "github.com/coreos/go-systemd/v22/daemon"
)

// notify sends a state like systemd.SdNotifyReady to the service manager, if it asks
// for it (sd_notify(3)).
func notify(log *slog.Logger, state string) {
	if _, err := systemd.SdNotify(false, state); err != nil {
		log.Warn("the service manager could not be notified", "state", state, "cause", err)
	}
}
