package etcdstore

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/qkdmail/qkdmail/kmclient"
)

// Whether a request may be sent again when it is not known if it was received.
const (
	repeatable = true
	once       = false
)

const (
	pause     = 50 * time.Millisecond // before a request is sent again
	perMember = 3                     // the share of the time that one member may take to answer, if others can be asked
)

var (
	errClosed  = errors.New("closed")
	errCluster = errors.New("another etcd cluster has answered than the first time: the endpoints belong to different ones, or it was made anew from a snapshot: name the members of one cluster only, and start the relays again")
	errBehind  = errors.New("the etcd cluster was restored from a snapshot, or has lost what it had acknowledged: start the relays again once it is as it should be")
)

// call makes a request, and again where that can help and is right, until the
// time-out of the store. Each time it goes to the next of the endpoints that are
// connected; as long as there is none, etcd's client waits.
//
// That client would repeat some requests by itself, writes among them if the
// server says that its own time was up or that the request was cancelled. They
// may have been made then, and the second would meet a conflict with the first.
// So it is told to try once (MaxUnaryRetries), and this alone decides. What gRPC
// below it sends again has not reached a server's program.
func (s *Store) call(ctx context.Context, again bool, request func(context.Context) (*pb.ResponseHeader, error)) error {
	if ctx.Err() != nil {
		return kmclient.GaveUp(ctx)
	}
	if s.closed.Load() {
		return s.storeError(errClosed)
	}
	if s.behind.Load() {
		return s.storeError(errBehind)
	}
	bounded, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	seen := s.revision.Load()
	var reason error // what has gone wrong, as far as it is known
	for {
		header, err := s.attempt(bounded, again, request)
		if err == nil {
			return s.storeError(s.checkCluster(seen, header))
		}
		if errors.Is(err, rpctypes.ErrFutureRev) { // one that it has given out
			s.behind.Store(true)
			return s.storeError(errBehind)
		}
		if reason == nil || inWords(err) != noAnswer {
			reason = err
		}
		switch {
		case ctx.Err() != nil:
			return kmclient.GaveUp(ctx)
		case s.closed.Load():
			return s.storeError(errClosed)
		case bounded.Err() != nil, !mayRepeat(err, again):
			return s.storeError(reason)
		}
		select {
		case <-bounded.Done():
		case <-time.After(pause):
		}
	}
}

// attempt makes a request once. A member that knows of no leader refuses it at
// once: it is cut off, and others may not be.
func (s *Store) attempt(ctx context.Context, again bool, request func(context.Context) (*pb.ResponseHeader, error)) (*pb.ResponseHeader, error) {
	if again && len(s.client.Endpoints()) > 1 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, s.timeout/perMember)
		defer cancel()
	}
	return request(clientv3.WithRequireLeader(ctx))
}

// checkCluster makes sure that all endpoints belong to one cluster, and that it
// is not behind the revision that was seen before the request: all requests are
// linearizable. A cluster that was restored with the same members and the same
// --initial-cluster-token has the ID that it had, and gives revisions out again.
func (s *Store) checkCluster(seen int64, h *pb.ResponseHeader) error {
	if !s.cluster.CompareAndSwap(0, h.ClusterId) && s.cluster.Load() != h.ClusterId {
		return errCluster
	}
	if h.Revision < seen {
		s.behind.Store(true)
		return errBehind
	}
	for old := s.revision.Load(); old < h.Revision && !s.revision.CompareAndSwap(old, h.Revision); {
		old = s.revision.Load()
	}
	return nil
}

// mayRepeat reports whether a request that has failed can go well the next time
// and may be sent again.
func mayRepeat(err error, again bool) bool {
	for _, refused := range []error{ // before anything was done
		rpctypes.ErrNoLeader, rpctypes.ErrAuthOldRevision, rpctypes.Error(rpctypes.ErrGRPCNotSupportedForLearner),
	} {
		if errors.Is(err, refused) {
			return true
		}
	}
	if !again {
		return false
	}
	if e, ok := errors.AsType[rpctypes.EtcdError](err); ok {
		return e.Code() == codes.Unavailable
	}
	return status.Code(err) == codes.Unavailable || isLate(err)
}

func isLate(err error) bool { return errors.Is(err, context.DeadlineExceeded) }

// An unanswered is a request that has not been answered in time, with what gRPC
// knows about the connections; etcd's client throws that away.
type unanswered struct {
	error
	reason string // "" if there was a connection
}

func (u *unanswered) Unwrap() error { return u.error }

// keepReason is a gRPC interceptor.
func keepReason(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, o ...grpc.CallOption) error {
	err := invoke(ctx, method, req, reply, conn, o...)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return &unanswered{ctx.Err(), connectionReason(status.Convert(err).Message())}
	case status.Code(err) == codes.DeadlineExceeded: // the server's clock was faster
		return &unanswered{error: context.DeadlineExceeded}
	}
	return err
}

// connectionReason returns what a text of gRPC says about a connection, "" if it
// says nothing: latest balancer error: connection error: desc = "transport:
// Error while dialing: dial tcp …: connect: connection refused".
func connectionReason(text string) string {
	_, reason, found := strings.Cut(text, "latest balancer error: ")
	if !found {
		return ""
	}
	if _, quoted, found := strings.Cut(reason, "desc = "); found {
		reason = quoted
		if plain, err := strconv.Unquote(quoted); err == nil {
			reason = plain
		}
	}
	reason = strings.TrimPrefix(strings.TrimPrefix(reason, "transport: "), "Error while dialing: ")
	for _, closed := range []string{"server preface", "broken pipe", "reset by peer"} {
		if strings.Contains(reason, closed) { // the alert of TLS may have come too late to be read
			return reason + " (the server closes the connection: only one side uses TLS, or it refuses the client certificate)"
		}
	}
	return reason
}

// storeError is the kmclient.ErrStore for an error of etcd or the way to it: it
// says in plain words what is wrong, and with which cluster.
func (s *Store) storeError(err error) error {
	if err == nil {
		return nil
	}
	words := inWords(err)
	switch {
	case isLate(err): // as Store.call has it, not the caller's context
		return fmt.Errorf("%w %s: %s", kmclient.ErrStore, s.where, words)
	case words != "":
		return fmt.Errorf("%w %s: %s: %w", kmclient.ErrStore, s.where, words, err)
	}
	return fmt.Errorf("%w %s: %w", kmclient.ErrStore, s.where, err)
}

func inWords(err error) string {
	if u, ok := errors.AsType[*unanswered](err); ok && u.reason != "" {
		return "no member can be reached: " + u.reason
	}
	if isLate(err) {
		return noAnswer
	}
	for _, known := range []struct {
		err   error
		words string
	}{
		{rpctypes.ErrNoSpace, "the space quota is used up: raise --quota-backend-bytes, or compact and defragment; then etcdctl alarm disarm"},
		{rpctypes.ErrTooManyOps, fmt.Sprintf("it takes too few operations in a transaction: --max-txn-ops must be %d or more", maxOps)},
		{rpctypes.ErrRequestTooLarge, fmt.Sprintf("a record is too large, or --max-request-bytes is below %d", maxRequest)},
		{rpctypes.ErrNoLeader, "the cluster has no leader: too few members are up or see each other"},
		{rpctypes.ErrTimeout, noQuorum},
		{rpctypes.ErrTimeoutDueToLeaderFail, noQuorum},
		{rpctypes.ErrTimeoutDueToConnectionLost, noQuorum},
		{rpctypes.ErrUserEmpty, notAllowed},
		{rpctypes.ErrPermissionDenied, notAllowed},
		{rpctypes.ErrCompacted, "others compact it again and again, so that nothing else gets done"},
		{rpctypes.ErrCorrupt, "the members' data differ: stop the relays, and restore the cluster from a snapshot with a new --initial-cluster-token"},
	} {
		if errors.Is(err, known.err) {
			return known.words
		}
	}
	if status.Code(err) == codes.Unavailable {
		return "the connection broke"
	}
	return ""
}

const (
	noAnswer   = "no answer in time; the cluster may have lost its quorum"
	noQuorum   = "the members have not agreed in time: too few are up, or they are too slow"
	notAllowed = "the user that the client certificate names (its common name) may not read and write this prefix"
)
