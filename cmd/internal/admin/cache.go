package admin

import (
	"maps"
	"sync"
	"sync/atomic"
)

// A cache has a value for each key, made when it is first asked for. Getting it
// again takes no lock and allocates nothing. A new key costs a copy of the map, so
// keys must be few.
type cache[K comparable, V any] struct {
	create func(K) V

	mu  sync.Mutex
	all atomic.Pointer[map[K]V]
}

func newCache[K comparable, V any](create func(K) V) *cache[K, V] {
	c := &cache[K, V]{create: create}
	c.all.Store(&map[K]V{})
	return c
}

func (c *cache[K, V]) get(k K) V {
	if v, ok := (*c.all.Load())[k]; ok {
		return v
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if v, ok := (*c.all.Load())[k]; ok {
		return v
	}
	all := maps.Clone(*c.all.Load())
	all[k] = c.create(k)
	c.all.Store(&all)
	return all[k]
}
