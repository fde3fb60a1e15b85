// Package etcdtest runs etcd clusters for tests: real ones, on the loopback
// interface, with free ports and folders of their own. Where no etcd is
// installed (Debian: etcd-server) the test is skipped and says so.
package etcdtest
