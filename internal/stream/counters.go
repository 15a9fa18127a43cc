package stream

import (
	"maps"
	"sync"
	"sync/atomic"

	"github.com/klive-media/klive/internal/fault"
)

// Counters count since the start of the server.
type Counters struct {
	Admitted, Packets, MediaBytes    atomic.Uint64
	Discontinuities, TimeRepairs     atomic.Uint64
	DroppedPackets, Broadcasts, Gaps atomic.Uint64
	ForcedCuts                       atomic.Uint64

	mu      sync.Mutex // guards the maps
	refused map[fault.Reason]uint64
	ends    map[fault.Reason]uint64
}

func (c *Counters) refuse(r fault.Reason) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.refused == nil {
		c.refused = make(map[fault.Reason]uint64)
	}
	c.refused[r]++
}

func (c *Counters) ended(r fault.Reason) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ends == nil {
		c.ends = make(map[fault.Reason]uint64)
	}
	c.ends[r]++
}

// Refused counts the publishers that were not let in, by reason.
func (c *Counters) Refused() map[fault.Reason]uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.refused)
}

// Ended counts the sessions that ended, by reason.
func (c *Counters) Ended() map[fault.Reason]uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.ends)
}

// Counters are the registry's.
func (r *Registry) Counters() *Counters { return &r.counters }
