package storecmd

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/qkdmail/qkdmail/cmd/internal/flags"
	"github.com/qkdmail/qkdmail/cmd/internal/terminal"
	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keystore"
	"github.com/spf13/cobra"
)

// listFlags select keys in a store.
type listFlags struct {
	states []string
	before string
}

func (s *storeFlags) list() *cobra.Command {
	var l listFlags
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the keys in a store",
		Long: `List the keys in a store, including closed ones, with the time when they were stored,
the message that they belong to (the beginning of its identity) and the time of its
first delivery. Damaged records are listed as such, and the exit code is then 65.

States: in_use was handed out for decryption, but no message is verified yet; used
belongs to a message; closed is deleted, and only its tombstone is left. To find
keys whose message never came: --state in_use --before 90d.`,
		Example: `  qkdmail store list
  qkdmail store list --state in_use --before 30d
  qkdmail store list --peer SAE_A --before 2026-01-31 --json`,
		Args: flags.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			wanted, err := l.filter(s.Peer, time.Now())
			if err != nil {
				return err
			}
			return s.runList(cmd, wanted)
		},
	}
	f := cmd.Flags()
	f.StringSliceVar(&l.states, "state", nil, "only keys in one of these states: in_use, used, closed")
	flags.OfferValues(cmd, "state", "in_use", "used", "closed")
	f.StringVar(&l.before, "before", "", "only keys stored before this date (2026-01-31, or with a time as in RFC 3339) or longer ago than this (30d, 12h)")
	return cmd
}

// filter returns a function that reports whether a key is wanted. Peer "" means any
// peer.
func (l *listFlags) filter(peer string, now time.Time) (func(keystore.Info) bool, error) {
	known := []string{string(kmclient.StateStored), string(kmclient.StateInUse), string(kmclient.StateUsed), string(kmclient.StateClosed)}
	for _, state := range l.states {
		if !slices.Contains(known, state) {
			return nil, terminal.Usage("--state %q: must be in_use, used or closed", state)
		}
	}
	before, err := parseBefore(l.before, now)
	if err != nil {
		return nil, err
	}
	return func(i keystore.Info) bool {
		return (l.states == nil || slices.Contains(l.states, string(i.State))) && (peer == "" || i.Peer == peer) &&
			(before.IsZero() || i.Stored.Before(before))
	}, nil
}

// parseBefore parses a date or an age. An empty text is the zero time.
func parseBefore(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.DateOnly, time.RFC3339} {
		if t, err := time.ParseInLocation(layout, text, now.Location()); err == nil {
			return t, nil
		}
	}
	age, err := keystore.ParseDuration(text)
	if err != nil || age < 0 {
		return time.Time{}, terminal.Usage("--before %q: must be a date like 2026-01-31 or 2026-01-31T12:00:00Z, or an age like 30d", text)
	}
	return now.Add(-age), nil
}

func (s *storeFlags) runList(cmd *cobra.Command, wanted func(keystore.Info) bool) error {
	store, err := s.open(cmd)
	if err != nil {
		return err
	}
	defer store.Close(cmd.Context())
	out := newLister(cmd.OutOrStdout(), s.asJSON)
	err = s.each(cmd.Context(), store, s.allSAEs, func(o keystore.Owner, store *keystore.Store) error {
		for info, err := range store.List(cmd.Context()) {
			switch {
			case errors.Is(err, keystore.ErrRecord):
				err = out.damagedKey(o, info)
			case err == nil && wanted(info):
				err = out.key(o, info)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err := errors.Join(err, out.close(err == nil)); err != nil {
		return err
	}
	return damagedError(out.damaged)
}

// A keyJSON is how --json prints a key.
type keyJSON struct {
	ID         string         `json:"key_id"`
	Size       int            `json:"key_size,omitzero"` // bits
	State      kmclient.State `json:"state,omitzero"`
	KM         string         `json:"km,omitzero"`
	SAE        string         `json:"sae,omitzero"`
	Peer       string         `json:"peer,omitzero"`
	Stored     time.Time      `json:"stored,omitzero"`
	InUse      time.Time      `json:"in_use,omitzero"`
	Used       time.Time      `json:"used,omitzero"`
	Closed     time.Time      `json:"closed,omitzero"`
	Message    string         `json:"message,omitzero"`
	Frame      uint64         `json:"frame,omitzero"`
	Delivered  time.Time      `json:"delivered,omitzero"`
	Recipients int            `json:"recipients,omitzero"`
	Key        []byte         `json:"key,omitzero"` // base64; with --reveal
	Damaged    bool           `json:"damaged,omitzero"`
}

func jsonOf(o keystore.Owner, i keystore.Info) keyJSON {
	return keyJSON{
		ID: i.ID, Size: i.Size, State: i.State, KM: o.KM, SAE: o.SAE, Peer: i.Peer,
		Stored: i.Stored, InUse: i.InUse, Used: i.Used, Closed: i.Closed,
		Message: i.Message, Frame: i.Frame, Delivered: i.Delivered, Recipients: i.Recipients,
	}
}

// A lister prints keys one at a time.
type lister struct {
	out     *bufio.Writer
	asJSON  bool
	n       int
	damaged int
}

func newLister(out io.Writer, asJSON bool) *lister {
	return &lister{out: bufio.NewWriter(out), asJSON: asJSON}
}

const listRow = "%-36s  %7s  %-6s  %-19s  %-19s  %-12s  %s\n"

func (l *lister) key(o keystore.Owner, i keystore.Info) error {
	if l.asJSON {
		return l.json(jsonOf(o, i))
	}
	l.head()
	message := i.Message[:min(len(i.Message), 12)]
	_, err := fmt.Fprintf(l.out, listRow, terminal.Printable(i.ID), fmt.Sprint(i.Size), i.State, when(i.Stored), when(i.Delivered), terminal.OrDash(message), terminal.OrDash(terminal.Printable(i.Peer)))
	return err
}

// damagedKey prints what can be read of a damaged record.
func (l *lister) damagedKey(o keystore.Owner, i keystore.Info) error {
	l.damaged++
	if l.asJSON {
		j := jsonOf(o, i)
		j.Damaged = true
		return l.json(j)
	}
	l.head()
	_, err := fmt.Fprintf(l.out, "%-36s  damaged\n", terminal.Printable(i.ID))
	return err
}

// head prints the column headings before the first row.
func (l *lister) head() {
	if l.n++; l.n == 1 {
		_, _ = fmt.Fprintf(l.out, listRow, "KEY ID", "BITS", "STATE", "STORED", "DELIVERED", "MESSAGE", "PEER") // out keeps the error
	}
}

// json prints an element of the JSON array.
func (l *lister) json(v any) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetIndent("  ", "  ")
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return err
	}
	before := ",\n  "
	if l.n++; l.n == 1 {
		before = "[\n  "
	}
	_, err := l.out.WriteString(before + string(bytes.TrimSuffix(b.Bytes(), []byte("\n"))))
	return err
}

// close ends the JSON array if it is whole.
func (l *lister) close(whole bool) error {
	switch {
	case !l.asJSON:
		l.head()
	case !whole:
	case l.n == 0:
		_, _ = l.out.WriteString("[]\n")
	default:
		_, _ = l.out.WriteString("\n]\n")
	}
	return l.out.Flush()
}

func when(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Format(time.DateTime)
}
