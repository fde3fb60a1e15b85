package sim

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
)

// A logHandler reads the log of a relay: alarms go into the ledger, warnings into the
// trace. Nobody reads what a dead process logs.
type logHandler struct {
	life *life
}

// Enabled implements slog.Handler.
func (h *logHandler) Enabled(_ context.Context, level slog.Level) bool {
	return level >= slog.LevelInfo
}

// Handle implements slog.Handler.
func (h *logHandler) Handle(_ context.Context, r slog.Record) error {
	w := h.life.node.site.world
	if h.life.isDead() || r.Level < slog.LevelWarn && !w.verbose {
		return nil
	}
	a := alarm{site: h.life.node.site}
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s", h.life.node.name, r.Message)
	r.Attrs(func(attr slog.Attr) bool {
		switch attr.Key {
		case "alarm":
			a.kind = attr.Value.String()
		case "key_id":
			a.ids = append(a.ids, attr.Value.String())
		case "key_ids":
			if ids, ok := attr.Value.Any().([]string); ok {
				a.ids = append(a.ids, ids...)
			}
		}
		fmt.Fprintf(&b, " %s=%v", attr.Key, attr.Value)
		return true
	})
	a.text = b.String()
	if strings.Contains(a.text, "secret-") {
		w.violate("log", "a log shows what is in a message: %s", a.text)
	}
	if strings.Contains(a.text, "panic") {
		w.violate("panic", "%s", a.text)
	}
	if a.kind != "" {
		w.ledger.alarmed(a)
		return nil
	}
	w.tracef("%s", a.text)
	return nil
}

// WithAttrs implements slog.Handler.
func (h *logHandler) WithAttrs([]slog.Attr) slog.Handler { return h }

// WithGroup implements slog.Handler.
func (h *logHandler) WithGroup(string) slog.Handler { return h }
