package mailbox

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Subfolders of a Maildir folder (https://cr.yp.to/proto/maildir.html).
const (
	subNew = "new"
	subCur = "cur"
	subTmp = "tmp"
)

// maildirMark is an empty file in the folders of Maildir++ that are within another.
const maildirMark = "maildirfolder"

// isMaildir reports whether a folder is a Maildir folder.
func isMaildir(dir string) bool {
	for _, sub := range []string{subNew, subCur} {
		if info, err := os.Stat(filepath.Join(dir, sub)); err != nil || !info.IsDir() {
			return false
		}
	}
	return true
}

// Maildirs returns the names, relative to root, of the Maildir folders among root and the
// folders in it: those of Maildir++, whose names begin with a dot, and others. It does
// not look into folders for which skip is true, and follows no link but root. others is
// how many .eml files there are besides.
func Maildirs(root string, skip func(dir string) bool) (names []string, others int, err error) {
	err = filepath.WalkDir(root+string(filepath.Separator), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if !d.IsDir() {
			if strings.EqualFold(filepath.Ext(path), ".eml") {
				others++
			}
			return nil
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		parent, name := filepath.Split(filepath.Clean(path))
		if rel != "." && skip(path) || (name == subNew || name == subCur || name == subTmp) && isMaildir(parent) {
			return filepath.SkipDir
		}
		if isMaildir(path) {
			names = append(names, rel)
		}
		return nil
	})
	return names, others, err
}

// A MaildirEntry is a message in a Maildir folder.
type MaildirEntry struct {
	Path string
	Size int64 // in bytes
	sub  string
	id   string
}

// list returns the messages of a Maildir folder, those in new first: a running mail
// program moves messages from there to cur. It calls skipped for files that are not
// messages.
func list(dir string, skipped func(path, why string)) (entries []MaildirEntry, err error) {
	seen := map[string]bool{}
	for _, sub := range []string{subNew, subCur} {
		files, err := os.ReadDir(filepath.Join(dir, sub))
		if err != nil {
			return nil, err
		}
		for _, f := range files {
			if strings.HasPrefix(f.Name(), ".") {
				continue
			}
			e := MaildirEntry{Path: filepath.Join(dir, sub, f.Name()), sub: sub, id: unique(f.Name())}
			info, err := os.Stat(e.Path)
			switch {
			case errors.Is(err, fs.ErrNotExist):
				skipped(e.Path, "it was moved or deleted: run this again")
			case err != nil:
				return nil, err
			case !info.Mode().IsRegular():
				skipped(e.Path, "it is not a regular file")
			case seen[e.id]:
				skipped(e.Path, "another message has this name: rename it")
			default:
				seen[e.id], e.Size = true, info.Size()
				entries = append(entries, e)
			}
		}
	}
	return entries, nil
}

// uniques returns the files in a folder by the unique parts of their names.
func uniques(dir string) (map[string]string, error) {
	files, err := os.ReadDir(dir)
	found := map[string]string{}
	for _, f := range files {
		if !strings.HasPrefix(f.Name(), ".") {
			found[unique(f.Name())] = f.Name()
		}
	}
	return found, err
}

// unique returns the part of a file's name that stays the same when a mail program sets
// flags, and in a message's copy: without sizes.
func unique(name string) string {
	name, _, _ = strings.Cut(name, ":")
	return withSizes(name, func(string) string { return "" })
}

// sized returns the name of a file with its sizes, if it has any, corrected. Sizes are in
// bytes.
func sized(name string, size, withCRLF int64) string {
	name, flags, hasFlags := strings.Cut(name, ":")
	name = withSizes(name, func(what string) string {
		if what == "S=" {
			return ",S=" + strconv.FormatInt(size, 10)
		}
		return ",W=" + strconv.FormatInt(withCRLF, 10)
	})
	if hasFlags {
		name += ":" + flags
	}
	return name
}

// withSizes replaces the sizes that Maildir++ puts into names: ",S=" is the size of the
// file, ",W=" its size with lines that end with CRLF. Dovecot relies on them.
func withSizes(name string, replace func(what string) string) string {
	parts := strings.Split(name, ",")
	for i, part := range parts[1:] {
		what := part[:min(2, len(part))]
		if _, err := strconv.ParseUint(part[len(what):], 10, 63); err == nil && (what == "S=" || what == "W=") {
			parts[i+1] = replace(what)
		} else {
			parts[i+1] = "," + part
		}
	}
	return strings.Join(parts, "")
}
