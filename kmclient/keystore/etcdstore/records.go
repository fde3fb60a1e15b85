package etcdstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/qkdmail/qkdmail/kmclient/keystore"
)

// What etcd takes by default, and what follows from it.
const (
	maxOps     = 128     // operations in a transaction (--max-txn-ops)
	maxRequest = 3 << 19 // octets of a request (--max-request-bytes)
	maxSend    = 2 << 20 // so that it is etcd that says if a request is too large
	perChange  = 3       // operations: a record, its old due time, its new one; one more is left for applyTxn
	page       = 64      // records that are read at a time
	attempts   = 10      // at what others get in the way of by compacting the cluster
	maxReceive = page*maxSend + 1<<20
)

// Limits: a name is there up to four times in a transaction, each time with the
// prefix, which leaves the rest of a request for values.
func (s *Store) Limits() keystore.Limits {
	return keystore.Limits{Changes: maxOps / perChange, Octets: 1<<20 + 256<<10}
}

// txn makes a transaction and returns its answer.
func (s *Store) txn(ctx context.Context, again bool, conditions []clientv3.Cmp, ops []clientv3.Op) (answer *clientv3.TxnResponse, err error) {
	err = s.call(ctx, again, func(ctx context.Context) (*pb.ResponseHeader, error) {
		answer, err = s.client.Txn(ctx).If(conditions...).Then(ops...).Commit()
		if err != nil {
			return nil, err
		}
		return answer.Header, nil
	})
	return answer, err
}

// scan returns what is at the keys from start, included, to before stop, count of
// them at most.
func (s *Store) scan(ctx context.Context, start, stop string, count int, o ...clientv3.OpOption) (answer *clientv3.GetResponse, err error) {
	o = append(o, clientv3.WithRange(stop), clientv3.WithLimit(int64(count)))
	err = s.call(ctx, repeatable, func(ctx context.Context) (*pb.ResponseHeader, error) {
		answer, err = s.client.Get(ctx, start, o...)
		if err != nil {
			return nil, err
		}
		return answer.Header, nil
	})
	return answer, err
}

// Get returns records by their names.
func (s *Store) Get(ctx context.Context, names ...keystore.Name) ([]*keystore.Record, error) {
	return s.get(ctx, 0, names)
}

// get returns records as they were at a revision, 0 for the present.
func (s *Store) get(ctx context.Context, revision int64, names []keystore.Name) ([]*keystore.Record, error) {
	records := make([]*keystore.Record, 0, len(names))
	for some := range slices.Chunk(names, page) {
		ops := make([]clientv3.Op, len(some))
		for i, n := range some {
			if err := n.Check(); err != nil {
				return nil, s.storeError(err)
			}
			ops[i] = clientv3.OpGet(s.record(n), clientv3.WithRev(revision))
		}
		answer, err := s.txn(ctx, repeatable, nil, ops)
		if err != nil {
			return nil, err
		}
		for i, r := range answer.Responses {
			var record *keystore.Record
			if kvs := r.GetResponseRange().GetKvs(); len(kvs) > 0 {
				if record, err = decodeValue(some[i], kvs[0].Value, kvs[0].ModRevision); err != nil {
					return nil, s.storeError(err)
				}
			}
			records = append(records, record)
		}
	}
	return records, nil
}

// Apply makes changes, all or none.
func (s *Store) Apply(ctx context.Context, changes ...keystore.Change) error {
	var conditions []clientv3.Cmp
	var ops []clientv3.Op
	for _, c := range changes {
		if err := c.Name().Check(); err != nil {
			return s.storeError(err)
		}
		var revision int64 // of a key that is not there
		if c.Old != nil {
			if revision = c.Old.Version; revision <= 0 {
				return fmt.Errorf("%w: %v", keystore.ErrConflict, c.Name())
			}
		}
		conditions = append(conditions, clientv3.Compare(clientv3.ModRevision(s.record(c.Name())), "=", revision))
		ops = append(ops, s.operations(c)...)
	}
	answer, err := s.applyTxn(ctx, conditions, ops)
	switch {
	case err != nil:
		return err
	case answer.Succeeded:
		for _, c := range changes {
			if c.New != nil && c.New != c.Old {
				c.New.Version = answer.Header.Revision // ModRevision of what it wrote
			}
		}
		return nil
	case len(changes) == 1:
		return fmt.Errorf("%w: %v", keystore.ErrConflict, changes[0].Name())
	}
	return fmt.Errorf("%w: %v or one of %d others", keystore.ErrConflict, changes[0].Name(), len(changes)-1)
}

// applyTxn makes a transaction that changes records. It reads a key as of the
// latest revision that was seen: a cluster that was restored, and is not there yet,
// refuses the whole before it has changed anything. Besides, a transaction without
// an operation would be answered by a member for itself, from what it knows, which
// may be old.
func (s *Store) applyTxn(ctx context.Context, conditions []clientv3.Cmp, ops []clientv3.Op) (*clientv3.TxnResponse, error) {
	for range attempts {
		there := clientv3.OpGet(s.records, clientv3.WithRev(s.revision.Load()))
		answer, err := s.txn(ctx, once, conditions, append(ops, there))
		if !errors.Is(err, rpctypes.ErrCompacted) {
			return answer, err
		}
		// Somebody else has compacted up to what this one has not seen.
		if _, err := s.latest(ctx); err != nil {
			return nil, err
		}
	}
	return nil, s.storeError(rpctypes.ErrCompacted)
}

// latest returns the revision of the cluster, and with that has seen it. It asks
// for a key that is never there: what counts keys costs more, the more there are.
func (s *Store) latest(ctx context.Context) (revision int64, err error) {
	answer, err := s.scan(ctx, s.records, s.records+end, 1)
	if err != nil {
		return 0, err
	}
	return answer.Header.Revision, nil
}

// operations returns what makes a change, with the due time.
func (s *Store) operations(c keystore.Change) (ops []clientv3.Op) {
	if c.New == c.Old {
		return nil
	}
	var before, after string
	if c.Old != nil {
		before = s.due(c.Old)
	}
	if c.New == nil {
		ops = append(ops, clientv3.OpDelete(s.record(c.Old.Name)))
	} else {
		after = s.due(c.New)
		ops = append(ops, clientv3.OpPut(s.record(c.New.Name), encodeValue(c.New)))
	}
	if before != "" && before != after {
		ops = append(ops, clientv3.OpDelete(before))
	}
	if after != "" && before != after {
		ops = append(ops, clientv3.OpPut(after, ""))
	}
	return ops
}

// List returns the records that follow a name.
func (s *Store) List(ctx context.Context, after keystore.Name, count int) ([]*keystore.Record, error) {
	if err := after.Check(); err != nil {
		return nil, s.storeError(err)
	}
	var records []*keystore.Record
	start, depth := s.record(after)+end, deepest
	for len(records) < count {
		stop := s.narrow(start, depth)
		answer, err := s.scan(ctx, start, stop, min(page, count-len(records)))
		if err != nil {
			return nil, err
		}
		for _, kv := range answer.Kvs {
			r, err := s.parse(kv)
			if err != nil {
				return nil, s.storeError(err)
			}
			records = append(records, r)
		}
		switch {
		case answer.More:
			start = s.record(records[len(records)-1].Name) + end
			if depth < 0 {
				depth = deepest
			}
		case depth < 0:
			return records, nil
		default: // there were too few in so small a part
			start, depth = stop, depth-1
		}
	}
	return records, nil
}

// Due returns the records that are due, the earliest first.
func (s *Store) Due(ctx context.Context, km, sae string, now time.Time, count int) ([]*keystore.Record, error) {
	if err := (keystore.Name{KM: km, SAE: sae}).Check(); err != nil {
		return nil, s.storeError(err)
	}
	before := s.dueBefore(km, sae)
	var records []*keystore.Record
	compacted := 0
	for start := before; len(records) < count; {
		answer, err := s.scan(ctx, start, before+encodeDue(now.Add(time.Second)), min(page, count-len(records)), clientv3.WithKeysOnly())
		if err != nil {
			return nil, err
		}
		some, err := s.dueRecords(ctx, km, sae, answer)
		if errors.Is(err, rpctypes.ErrCompacted) && compacted < attempts {
			compacted++ // by somebody else, meanwhile
			continue
		}
		if err != nil {
			return nil, err
		}
		records = append(records, some...)
		if !answer.More {
			break
		}
		start = string(answer.Kvs[len(answer.Kvs)-1].Key) + end
	}
	return records, nil
}

// dueRecords returns the records of due times, as they were when those were
// read.
func (s *Store) dueRecords(ctx context.Context, km, sae string, dues *clientv3.GetResponse) ([]*keystore.Record, error) {
	var names []keystore.Name
	var times []time.Time
	for _, kv := range dues.Kvs {
		n, due, ok := s.parseDue(kv.Key, km, sae)
		if !ok {
			s.logger.Error("a key in the range of due times was not made by this program; it is left as it is", "key", fmt.Sprintf("%.300q", kv.Key))
			continue
		}
		names, times = append(names, n), append(times, due)
	}
	found, err := s.get(ctx, dues.Header.Revision, names)
	if err != nil {
		return nil, err
	}
	var records []*keystore.Record
	for i, r := range found {
		if r == nil || !r.Due.Equal(times[i]) {
			s.logger.Error("a due time without its record: somebody else has changed the store; it is left as it is", "record", names[i].String())
			continue
		}
		records = append(records, r)
	}
	return records, nil
}

// Compact makes what was overwritten and deleted unreadable, in the whole
// cluster. The members remove it from their files in the background.
func (s *Store) Compact(ctx context.Context) error {
	revision, err := s.latest(ctx)
	if err != nil {
		return err
	}
	err = s.call(ctx, repeatable, func(ctx context.Context) (*pb.ResponseHeader, error) {
		answer, err := s.client.Compact(ctx, revision)
		if err != nil {
			return nil, err
		}
		return answer.Header, nil
	})
	if errors.Is(err, rpctypes.ErrCompacted) { // somebody else was faster
		return nil
	}
	return err
}
