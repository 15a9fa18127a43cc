package pipeline

import (
	"context"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// never is a time that no entry reaches.
const never = math.MaxInt64

// snoozers are the cursors that wait in NextAt. There are few of them, one or
// two a log, so a plain list does.
type snoozers[T any] struct {
	until  atomic.Int64 // the earliest time that anybody waits for; never when nobody waits
	newest atomic.Int64 // the latest time of any entry

	mu   sync.Mutex // guards list and the until of its cursors
	list []*Cursor[T]
}

// rouse wakes the cursors that wait for at or earlier; with all, all.
func (s *snoozers[T]) rouse(at time.Duration, all bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = slices.DeleteFunc(s.list, func(c *Cursor[T]) bool {
		if !all && c.until > at {
			return false
		}
		select {
		case c.wake <- struct{}{}:
		default:
		}
		return true
	})
	s.settle()
}

// settle computes until anew; mu is held.
func (s *snoozers[T]) settle() {
	until := int64(never)
	for _, c := range s.list {
		until = min(until, int64(c.until))
	}
	s.until.Store(until)
}

// doze waits until an entry at or after the time at, or a sync point, was
// appended after head, the log was closed or ctx ended.
func (c *Cursor[T]) doze(ctx context.Context, head uint64, at time.Duration) error {
	l, s := c.log, &c.log.snooze
	s.mu.Lock()
	select { // a token of an earlier round that nobody fetched
	case <-c.wake:
	default:
	}
	c.until = at
	s.list = append(s.list, c)
	s.settle()
	// The writer moves head and then looks at until; we did it the other way
	// round, so one of us sees the other.
	if l.closed.Load() || l.lastSync.Load() > head || l.head.Load() > head && s.newest.Load() >= int64(at) {
		s.remove(c)
		s.mu.Unlock()
		return nil
	}
	s.mu.Unlock()
	select {
	case <-c.wake:
		return nil
	case <-ctx.Done():
		s.mu.Lock()
		s.remove(c)
		s.mu.Unlock()
		return context.Cause(ctx)
	}
}

// remove takes c out of the list, if it is there; mu is held.
func (s *snoozers[T]) remove(c *Cursor[T]) {
	if i := slices.Index(s.list, c); i >= 0 {
		s.list = slices.Delete(s.list, i, i+1)
		s.settle()
	}
}
