package pipeline

import (
	"context"
	"sync"
	"sync/atomic"
)

// shardCount and relayWidth shape the wake-up: the writer wakes one parked
// cursor per shard, and each one woken wakes relayWidth more of its shard. So
// Append costs the same for ten readers and for thousands, no lock is wanted
// by everybody at once, and the last of 1000 is reached after 5 rounds.
const (
	shardCount = 16
	relayWidth = 2
)

// shard is a first-in first-out list of parked cursors.
type shard[T any] struct {
	waiting atomic.Int32 // length of the list, readable without mu

	mu          sync.Mutex // guards the list and the parked fields of its cursors
	first, last *Cursor[T]

	_ [64]byte // shards are locked by different readers at once: no shared cache line
}

// wake wakes one cursor of every shard that has any.
func (l *Log[T]) wake() {
	for i := range l.shards {
		if s := &l.shards[i]; s.waiting.Load() > 0 {
			s.pop(l.head.Load(), l.closed.Load(), 1)
		}
	}
}

// pop wakes up to n cursors that parked before head was reached. The list is
// ordered by that, so the first that is up to date ends it.
func (s *shard[T]) pop(head uint64, closed bool, n int) {
	s.mu.Lock()
	for range n {
		c := s.first
		if c == nil || c.parkedHead >= head && !closed {
			break
		}
		s.unlink(c)
		select {
		case c.wake <- struct{}{}:
		default:
		}
	}
	s.mu.Unlock()
}

// unlink takes c out of the list; s.mu is held.
func (s *shard[T]) unlink(c *Cursor[T]) {
	if c.prev == nil {
		s.first = c.succ
	} else {
		c.prev.succ = c.succ
	}
	if c.succ == nil {
		s.last = c.prev
	} else {
		c.succ.prev = c.prev
	}
	c.prev, c.succ, c.parked = nil, nil, false
	s.waiting.Add(-1)
}

// park waits until something was appended after head, the log was closed or
// ctx ended, and then passes the wake-up on.
func (c *Cursor[T]) park(ctx context.Context, head uint64) error {
	s, l := c.shard, c.log
	s.mu.Lock()
	select { // a token of an earlier round that nobody fetched
	case <-c.wake:
	default:
	}
	c.parkedHead, c.parked = head, true
	c.prev = s.last
	if s.last == nil {
		s.first = c
	} else {
		s.last.succ = c
	}
	s.last = c
	s.waiting.Add(1)
	// The writer moves head and then looks at waiting; we did it the other way
	// round, so one of us sees the other.
	if l.head.Load() > head || l.closed.Load() {
		s.unlink(c)
		s.mu.Unlock()
		return nil
	}
	s.mu.Unlock()

	var err error
	select {
	case <-c.wake:
	case <-ctx.Done():
		err = context.Cause(ctx)
		s.mu.Lock()
		if c.parked {
			s.unlink(c)
		}
		s.mu.Unlock()
	}
	// Also when ctx ended: the wake-up may have been meant to go through us.
	s.pop(l.head.Load(), l.closed.Load(), relayWidth)
	return err
}
