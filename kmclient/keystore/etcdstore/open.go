package etcdstore

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keystore"
)

const (
	defaultTimeout = 10 * time.Second

	// An endpoint that has gone without a word is noticed after these.
	keepAlive        = 10 * time.Second
	keepAliveTimeout = 5 * time.Second
)

// Options of a Store. Only Endpoints is mandatory.
type Options struct {
	Endpoints []string // HOST:PORT of members of one cluster; all of them are used, and each can stand in for the others
	Prefix    string   // what all keys begin with; /qkdmail. See ParseURL for its form

	// TLS is used if one of these files is given, or TLS. They are read again for
	// each connection; if one can't be used then, the old ones stay in use. No CA
	// file: the CAs of the system.
	CAFile, CertFile, KeyFile string
	TLS                       *tls.Config // instead of the files

	// Timeout is for each request to the cluster, that to open it included,
	// with all attempts at other endpoints; 10 s. etcd itself gives up on a
	// write after 7 s.
	Timeout time.Duration

	Logger *slog.Logger // for what is found wrong in the store; may be nil
}

// A Store is a range of keys in an etcd cluster. Its methods may be called from
// several goroutines at the same time.
type Store struct {
	layout
	where   string // the cluster, for people
	timeout time.Duration
	logger  *slog.Logger
	client  *clientv3.Client
	cluster atomic.Uint64 // its ID, once it has answered

	revision atomic.Int64 // the latest that was seen
	behind   atomic.Bool  // the cluster has not been there any more
	closing  sync.Once
	closed   atomic.Bool
}

var _ keystore.Store = (*Store)(nil)

// Open connects to a cluster and returns once it has answered. Options that
// make no sense are a kmclient.ErrConfig; a cluster that can't be reached within
// the time-out, has no quorum, refuses the certificate or the prefix, or takes
// too few operations in one transaction is a kmclient.ErrStore that says so.
func Open(ctx context.Context, o Options) (*Store, error) {
	config, err := o.config()
	if err != nil {
		return nil, err
	}
	s := &Store{
		layout:  newLayout(o.Prefix),
		where:   scheme + strings.Join(o.Endpoints, ",") + o.Prefix,
		timeout: o.Timeout, logger: o.Logger,
	}
	if s.client, err = clientv3.New(config); err != nil { // it has not connected yet
		return nil, s.storeError(err)
	}
	if err := s.probe(ctx); err != nil {
		_ = s.client.Close()
		return nil, err
	}
	return s, nil
}

// probe asks for as much in one transaction as Apply may change: again and again
// for a key that is not there, since only the number counts.
func (s *Store) probe(ctx context.Context) error {
	ops := make([]clientv3.Op, maxOps)
	for i := range ops {
		ops[i] = clientv3.OpGet(s.records)
	}
	_, err := s.txn(ctx, repeatable, nil, ops)
	return err
}

// config checks the options, puts the defaults in and returns what they are for
// etcd's client.
func (o *Options) config() (clientv3.Config, error) {
	if err := o.checkAddress(); err != nil {
		return clientv3.Config{}, err
	}
	if o.Timeout < 0 {
		return clientv3.Config{}, fmt.Errorf("%w: a negative time-out", kmclient.ErrConfig)
	}
	o.Timeout = cmp.Or(o.Timeout, defaultTimeout)
	o.Logger = cmp.Or(o.Logger, slog.New(slog.DiscardHandler))
	tlsConfig, err := o.tlsConfig()
	if err != nil {
		return clientv3.Config{}, err
	}
	dial := []grpc.DialOption{ // as to a key manager, no proxy of the environment is used
		grpc.WithNoProxy(), grpc.WithChainUnaryInterceptor(keepReason),
	}
	if o.hasFiles() {
		dial = append(dial, grpc.WithTransportCredentials(newFileCredentials(tlsConfig, *o)))
	}
	return clientv3.Config{
		Endpoints: o.Endpoints, TLS: tlsConfig,
		DialKeepAliveTime: keepAlive, DialKeepAliveTimeout: keepAliveTimeout,
		MaxCallSendMsgSize: maxSend, MaxCallRecvMsgSize: maxReceive,
		MaxUnaryRetries: 1, // see Store.call
		Logger:          zap.NewNop(),
		DialOptions:     dial,
	}, nil
}

// Close ends the connections. Closing twice does no harm.
func (s *Store) Close() (err error) {
	s.closing.Do(func() {
		s.closed.Store(true)
		if err = s.client.Close(); errors.Is(err, context.Canceled) {
			err = nil // of its own context
		}
		err = s.storeError(err)
	})
	return err
}
