package etcdstore_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keystore"
	"github.com/qkdmail/qkdmail/kmclient/keystore/etcdstore"
)

// A slow etcd takes its time, but for the first transaction, which is that of
// Open.
type slow struct {
	pb.UnimplementedKVServer
	takes time.Duration
	txns  atomic.Int64
}

func (f *slow) Txn(_ context.Context, r *pb.TxnRequest) (*pb.TxnResponse, error) {
	if f.txns.Add(1) > 1 {
		time.Sleep(f.takes)
	}
	return nothing(r), nil
}

// Where no other member can be asked, the one has all the time there is.
func TestOneEndpoint(t *testing.T) {
	t.Parallel()
	const timeout = 4 * time.Second
	f := &slow{takes: timeout / 2}
	s := openStore(t, etcdstore.Options{Endpoints: []string{serve(t, f)}, Timeout: timeout})
	if _, err := s.Get(t.Context(), name("a")); err != nil || f.txns.Load() != 2 {
		t.Errorf("a member that answers within the time-out was asked %d times: %v", f.txns.Load()-1, err)
	}
}

// A compacting etcd has compacted whatever one comes back for.
type compacting struct {
	pb.UnimplementedKVServer
	txns atomic.Int64
}

func (f *compacting) Txn(_ context.Context, r *pb.TxnRequest) (*pb.TxnResponse, error) {
	if f.txns.Add(1) > 1 {
		return nil, rpctypes.ErrGRPCCompacted
	}
	return nothing(r), nil
}

func (f *compacting) Range(_ context.Context, r *pb.RangeRequest) (*pb.RangeResponse, error) {
	due := string(r.Key) + "\x80\x00\x00\x00\x00\x00\x00\x01receive\x00a"
	return &pb.RangeResponse{Header: &pb.ResponseHeader{ClusterId: 1, Revision: f.txns.Load()}, Kvs: []*mvccpb.KeyValue{{Key: []byte(due)}}}, nil
}

// Others who compact all the time are an error some day.
func TestCompactedAgainAndAgain(t *testing.T) {
	t.Parallel()
	for what, call := range map[string]func(context.Context, keystore.Store) error{
		"Apply": func(ctx context.Context, s keystore.Store) error {
			return s.Apply(ctx, keystore.Change{New: record("a", "1")})
		},
		"Due": func(ctx context.Context, s keystore.Store) error {
			return second(s.Due(ctx, "km", "sae", time.Now(), 10))
		},
	} {
		f := &compacting{}
		s := openStore(t, etcdstore.Options{Endpoints: []string{serve(t, f)}})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		err := call(ctx, s)
		cancel()
		if !errors.Is(err, kmclient.ErrStore) || !errors.Is(err, rpctypes.ErrCompacted) || !strings.Contains(err.Error(), "others compact it") || f.txns.Load() > 50 {
			t.Errorf("%s: got %v after %d requests", what, err, f.txns.Load())
		}
	}
}

// A name that would be the key of another record is refused before it is sent.
func TestBadName(t *testing.T) {
	t.Parallel()
	f := &slow{}
	s := openStore(t, etcdstore.Options{Endpoints: []string{serve(t, f)}})
	bad := name("a\x00b")
	for what, err := range map[string]error{
		"Get":   second(s.Get(t.Context(), bad)),
		"Apply": s.Apply(t.Context(), keystore.Change{New: &keystore.Record{Name: bad}}),
		"List":  second(s.List(t.Context(), bad, 10)),
		"Due":   second(s.Due(t.Context(), "k\x00m", "sae", time.Now(), 10)),
	} {
		if !errors.Is(err, kmclient.ErrStore) || !strings.Contains(err.Error(), "can't have the name") {
			t.Errorf("%s: got %v", what, err)
		}
	}
	if n := f.txns.Load(); n != 1 {
		t.Errorf("%d transactions, want that of Open only", n)
	}
}
