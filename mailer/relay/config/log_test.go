package config

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
)

func TestLogHandler(t *testing.T) {
	for format, want := range map[string]string{formatText: "level=WARN msg=hello", formatJSON: `"level":"WARN","msg":"hello"`} {
		var b bytes.Buffer
		log := slog.New((&Log{Format: format, Level: slog.LevelWarn}).Handler(&b))
		log.Info("not this")
		log.Warn("hello")
		if got := b.String(); !strings.Contains(got, want) || strings.Contains(got, "not this") {
			t.Errorf("%s: %q", format, got)
		}
	}
}

func TestShownID(t *testing.T) {
	const id = "<1@a.example>"
	for how, want := range map[string]string{idClear: id, "": id, idHash: "0f8490f7fe793dd6", idOff: ""} {
		if got := (&Log{MessageID: how}).ShownID(id); got != want {
			t.Errorf("%q: %q, want %q", how, got, want)
		}
	}
}
