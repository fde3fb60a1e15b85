package keystore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/durable"
)

// Rotate seals all records, whoever the owner, with another store key. From then
// on the old one opens nothing but copies that were made before. Messages may be
// worked on meanwhile.
//
// If it is interrupted, both keys are needed to open the store until Rotate has
// been called again, with the same new key, and has come to its end. Other
// processes ask their KeySource again when they meet the new key; one whose
// source does not give it can't read or write any more, and asks the key manager
// for no key: its errors are an ErrStoreKey until it is started with the new key.
//
// Recipients stay recorded under the key that was made with the store, since
// they are not known here; it is sealed with the new key.
func (s *Store) Rotate(ctx context.Context, newKey StoreKey) error {
	return s.sealed.rotate(ctx, newKey)
}

func (v *sealed) rotate(ctx context.Context, newKey StoreKey) error {
	if len(newKey.octets) != storeKeySize {
		return fmt.Errorf("%w: store key of %d octets, must be %d", kmclient.ErrConfig, len(newKey.octets), storeKeySize)
	}
	number, err := v.beginRotation(ctx, newKey)
	if err != nil {
		return fmt.Errorf("change the store key: %w", err)
	}
	for _, kind := range sealedKinds() {
		if err := v.resealAll(ctx, kind, number); err != nil {
			return fmt.Errorf("change the store key, to be called again: %w", err)
		}
	}
	if err := v.endRotation(ctx, number); err != nil {
		return fmt.Errorf("change the store key, to be called again: %w", err)
	}
	v.compacted.Store(false)
	return v.compact(ctx)
}

// beginRotation makes newKey the one that seals, and returns its number. If the
// store has it already, an earlier call is carried on.
func (v *sealed) beginRotation(ctx context.Context, newKey StoreKey) (uint32, error) {
	v.mu.Lock()
	v.addKey(newKey)
	v.mu.Unlock()
	if err := v.reload(ctx); err != nil {
		return 0, err
	}
	v.mu.RLock()
	head, last, id, rcptKey := v.head, v.current, v.id, v.rcptKey
	v.mu.RUnlock()
	c, err := decodeHead(head)
	if err != nil {
		return 0, err
	}
	if _, _, err := newKey.unseal(id, headName(), c.Generations[len(c.Generations)-1].Check); err == nil {
		return last, nil
	}
	if len(c.Generations) > 1 {
		return 0, fmt.Errorf("%w: an earlier change, to another key, has to be ended first", ErrStoreKey)
	}
	check, err := newKey.seal(id, last+1, headName(), 0, rcptKey)
	if err != nil {
		return 0, err
	}
	c.Generations = append(c.Generations, generation{Number: last + 1, Check: check})
	if err := v.writeHead(ctx, head, c); err != nil {
		return 0, err
	}
	return last + 1, v.reload(ctx)
}

// resealAll seals the records of a kind. None is added under the old key while
// it runs; one that is changed meanwhile is under the new key already.
func (v *sealed) resealAll(ctx context.Context, kind Kind, number uint32) error {
	var edits []edit
	flush := func() error {
		defer func() {
			wipeEdits(edits)
			edits = nil
		}()
		return v.applyEach(ctx, edits)
	}
	err := v.each(ctx, Name{Kind: kind}, func(n Name) bool { return n.Kind == kind }, func(r *Record, it *item, err error) error {
		if err != nil { // it can't be opened with the old key either
			v.logger.Error("a damaged record is left as it is", "record", r.Name.String())
			return nil
		}
		if g, _ := generationOf(r.Value); g == number {
			return nil
		}
		edits = append(edits, edit{old: r, name: r.Name, due: r.Due, state: it.state, plain: slices.Clone(it.plain)})
		if len(edits) < page {
			return nil
		}
		return flush()
	})
	return errors.Join(err, flush())
}

// applyEach makes edits, and leaves out those whose record was changed
// meanwhile by somebody else.
func (v *sealed) applyEach(ctx context.Context, edits []edit) error {
	err := v.apply(ctx, edits...)
	if !errors.Is(err, ErrConflict) {
		return err
	}
	for _, e := range edits {
		if err := v.apply(ctx, e); err != nil && !errors.Is(err, ErrConflict) {
			return err
		}
	}
	return nil
}

// endRotation forgets the old key.
func (v *sealed) endRotation(ctx context.Context, number uint32) error {
	v.mu.RLock()
	head := v.head
	v.mu.RUnlock()
	c, err := decodeHead(head)
	if err != nil {
		return err
	}
	last := len(c.Generations) - 1
	if c.Generations[last].Number != number {
		return fmt.Errorf("%w: it was changed by another process meanwhile", ErrStoreKey)
	}
	if last > 0 {
		c.Generations = c.Generations[last:]
		if err := v.writeHead(ctx, head, c); err != nil {
			return err
		}
	}
	return v.reload(ctx)
}

// ReplaceKeyFile makes a new store key, changes to it and puts it into the file
// at path, in the place of the old one and with its owner and permissions.
// Interrupted at any moment, it can be called again; in between a [KeyFile] gives
// both keys.
func (s *Store) ReplaceKeyFile(ctx context.Context, path string) error {
	next := path + newSuffix
	if _, err := os.Lstat(next); errors.Is(err, os.ErrNotExist) {
		if err := writeKeyFile(next, path, NewStoreKey()); err != nil {
			return fmt.Errorf("%w: store key: %w", kmclient.ErrConfig, err)
		}
	}
	key, err := readKeyFile(next)
	if err != nil {
		return err
	}
	if err := s.Rotate(ctx, key); err != nil {
		return err
	}
	err = os.Rename(next, path)
	if err == nil {
		err = durable.Sync(filepath.Dir(path))
	}
	if err != nil {
		return fmt.Errorf("%w: store key: the new one is in %s and has to be moved to %s: %w", kmclient.ErrConfig, next, path, err)
	}
	return nil
}
