package etcdstore_test

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keystore"
	"github.com/qkdmail/qkdmail/kmclient/keystore/etcdstore"
)

// A failing is an etcd whose transactions fail as a real one's seldom do: writes
// always, reads the first time.
type failing struct {
	pb.UnimplementedKVServer
	err           error
	reads, writes atomic.Int64
}

func (f *failing) Txn(_ context.Context, r *pb.TxnRequest) (*pb.TxnResponse, error) {
	if len(r.Compare) > 0 {
		f.writes.Add(1)
		return nil, f.err
	}
	if f.reads.Add(1) == 2 { // the first is that of Open
		return nil, f.err
	}
	return nothing(r), nil
}

// nothing answers a transaction that asks for keys: none is there.
func nothing(r *pb.TxnRequest) *pb.TxnResponse {
	answer := &pb.TxnResponse{Header: &pb.ResponseHeader{ClusterId: 1}, Succeeded: true}
	for range r.Success {
		answer.Responses = append(answer.Responses, &pb.ResponseOp{Response: &pb.ResponseOp_ResponseRange{ResponseRange: &pb.RangeResponse{}}})
	}
	return answer
}

// serve has an etcd answer for the length of a test, and returns its endpoint.
func serve(t *testing.T, kv pb.KVServer) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	pb.RegisterKVServer(server, kv)
	go func() { _ = server.Serve(l) }()
	t.Cleanup(server.Stop)
	return l.Addr().String()
}

// A write whose outcome is not known is sent once, whatever the server says; one
// that was refused, and what only reads, is sent again.
func TestOnce(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		err                     error
		writesAgain, readsAgain bool
	}{
		"deadline":      {status.Error(codes.DeadlineExceeded, "context deadline exceeded"), false, true},
		"etcd deadline": {rpctypes.ErrGRPCDeadlineExceeded, false, true},
		"cancelled":     {rpctypes.ErrGRPCCanceled, false, false},
		"timeout":       {rpctypes.ErrGRPCTimeout, false, true},
		"leader lost":   {rpctypes.ErrGRPCTimeoutDueToLeaderFail, false, true},
		"unavailable":   {status.Error(codes.Unavailable, "transport is closing"), false, true},
		"stopped":       {rpctypes.ErrGRPCStopped, false, true},
		"no leader":     {rpctypes.ErrGRPCNoLeader, true, true},
		"old revision":  {rpctypes.ErrGRPCAuthOldRevision, true, true},
		"corrupt":       {rpctypes.ErrGRPCCorrupt, false, false},
	} {
		f := &failing{err: test.err}
		s := openStore(t, etcdstore.Options{Endpoints: []string{serve(t, f)}, Timeout: time.Second})

		err := s.Apply(t.Context(), keystore.Change{New: record("a", "1")})
		if n := f.writes.Load(); !errors.Is(err, kmclient.ErrStore) || (n > 1) != test.writesAgain {
			t.Errorf("%s: a write was sent %d times: %v", name, n, err)
		}
		_, err = s.Get(t.Context(), keystore.Name{ID: "a"})
		if n := f.reads.Load(); (err == nil) != test.readsAgain || (n == 3) != test.readsAgain {
			t.Errorf("%s: a read was sent %d times: %v", name, n-1, err)
		}
	}
}
