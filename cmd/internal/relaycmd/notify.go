package relaycmd

import (
	"log/slog"

	systemd "github.com/coreos/go-systemd/v22/daemon"
)

// notify tells a service manager that asks for it (sd_notify(3)) how far the
// relay is: systemd.SdNotifyReady and the like.
func notify(log *slog.Logger, state string) {
	if _, err := systemd.SdNotify(false, state); err != nil {
		log.Warn("the service manager could not be told", "state", state, "cause", err)
	}
}
