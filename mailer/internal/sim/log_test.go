package sim

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
)

// A logHandler reads all that a relay logs: alarms go into the ledger, warnings into the
// trace, and what relays do as well if the trace is shown. Nobody reads what a dead
// process logs.
type logHandler struct {
	life  *life
	attrs []slog.Attr // of each record
}

// Enabled implements slog.Handler.
func (h *logHandler) Enabled(context.Context, slog.Level) bool { return true }

// Handle implements slog.Handler. What it looks for does not depend on what is traced.
func (h *logHandler) Handle(_ context.Context, r slog.Record) error {
	if h.life.isDead() {
		return nil
	}
	w := h.life.node.site.world
	a := alarm{site: h.life.node.site}
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s", h.life.node.name, r.Message)
	for _, attr := range h.attrs {
		a.add(&b, attr)
	}
	r.Attrs(func(attr slog.Attr) bool {
		a.add(&b, attr)
		return true
	})
	a.text = b.String()
	if strings.Contains(a.text, "secret-") {
		w.violate("log", "a log shows what is in a message: %s", a.text)
	}
	if strings.Contains(a.text, "panic") {
		w.violate("panic", "%s", a.text)
	}
	switch {
	case a.kind != "":
		w.ledger.alarmed(a)
	case r.Level >= slog.LevelWarn || r.Level >= slog.LevelInfo && w.verbose:
		w.tracef("%s", a.text)
	}
	return nil
}

// add adds an attribute of a record to what is known about it.
func (a *alarm) add(b *strings.Builder, attr slog.Attr) {
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
	fmt.Fprintf(b, " %s=%v", attr.Key, attr.Value)
}

// WithAttrs implements slog.Handler.
func (h *logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &logHandler{h.life, slices.Concat(h.attrs, attrs)}
}

// WithGroup implements slog.Handler: groups are not told apart.
func (h *logHandler) WithGroup(string) slog.Handler { return h }
