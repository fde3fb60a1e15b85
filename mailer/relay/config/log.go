package config

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"log/slog"
)

// What Log.MessageID and Log.Format can be.
const (
	idClear = "clear"
	idHash  = "hash"
	idOff   = "off"

	formatText = "text"
	formatJSON = "json"
)

// Log says what is logged.
type Log struct {
	MessageID string     `toml:"message_id"` // clear (default), hash or off
	Addresses bool       `toml:"addresses"`  // of senders and recipients; default false
	Format    string     `toml:"format"`     // text (default) or json
	Level     slog.Level `toml:"level"`      // debug, info (default), warn or error
}

// Handler returns a handler that writes to w in this format, from this level up.
func (l *Log) Handler(w io.Writer) slog.Handler {
	o := &slog.HandlerOptions{Level: l.Level}
	if l.Format == formatJSON {
		return slog.NewJSONHandler(w, o)
	}
	return slog.NewTextHandler(w, o)
}

// ShownID returns what is logged of a message ID, "" for nothing.
func (l *Log) ShownID(id string) string {
	switch l.MessageID {
	case idOff:
		return ""
	case idHash:
		sum := sha256.Sum256([]byte(id))
		return hex.EncodeToString(sum[:8])
	}
	return id
}

func (f *findings) log() {
	f.oneOf("log.message_id", f.c.Log.MessageID, idClear, idHash, idOff)
	f.oneOf("log.format", f.c.Log.Format, formatText, formatJSON)
}
