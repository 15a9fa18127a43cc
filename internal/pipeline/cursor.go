package pipeline

import (
	"context"
	"io"
	"time"
)

// From says where a cursor begins.
type From struct {
	at  startAt
	seq uint64
}

type startAt uint8

const (
	liveEdge startAt = iota
	lastSync
	atSeq
)

// Where a cursor can begin.
var (
	// LiveEdge begins with the next entry to be appended.
	LiveEdge = From{at: liveEdge}
	// LastSync begins at the newest sync point inside the bounds; when there is
	// none, it waits for the next one, and the log counts that.
	LastSync = From{at: lastSync}
)

// Seq begins at the entry with sequence number n. When n has left the log
// already the first Next says ErrLapped; when it is yet to come, Next waits
// for it.
func Seq(n uint64) From { return From{at: atSeq, seq: n} }

// Cursor reads a log. It belongs to one goroutine and needs no closing: the
// log knows a cursor only while it is parked in Next.
type Cursor[T any] struct {
	log      *Log[T]
	next     uint64 // sequence number to be read next
	minSync  uint64 // with awaitSync: the sync point must be at or after this
	lost     uint64
	awaiting bool // for a sync point

	shard      *shard[T]
	wake       chan struct{} // capacity 1
	parkedHead uint64        // head when it parked; guarded by shard.mu
	prev, succ *Cursor[T]    // neighbours in the shard's list; guarded by shard.mu
	parked     bool          // in the shard's list; guarded by shard.mu
	until      time.Duration // what it dozes for; guarded by snoozers.mu
}

// Subscribe makes a cursor. It costs the writer nothing.
func (l *Log[T]) Subscribe(from From) *Cursor[T] {
	c := &Cursor[T]{
		log:   l,
		shard: &l.shards[l.next.Add(1)%shardCount],
		wake:  make(chan struct{}, 1),
	}
	switch from.at {
	case liveEdge:
		c.next = l.head.Load()
	case atSeq:
		c.next = from.seq
	case lastSync:
		c.seekSync(0)
	}
	return c
}

// seekSync moves to the newest readable sync point at or after least, or makes
// the next one awaited.
func (c *Cursor[T]) seekSync(least uint64) {
	l := c.log
	if s := l.lastSync.Load(); s > least && s > l.tail.Load() {
		c.next, c.awaiting = s-1, false
		return
	}
	l.syncWait.Add(1)
	c.awaiting, c.minSync = true, max(least, l.lastSync.Load())
}

// Next returns the next entry, waiting for it when there is none. It returns
// ErrLapped once when the writer overtook the cursor, io.EOF when the log is
// closed and read to its end, and the context's cause when ctx ended. It
// allocates nothing. The entry is shared: the caller must not write it.
func (c *Cursor[T]) Next(ctx context.Context) (*T, error) { return c.read(ctx, always) }

// NextAt is Next for a reader that has nothing to do before an entry at or
// after the time at, or a sync point, is there: it returns what is there
// already, but a wait is ended only by such an entry, by the end of the log or
// by ctx. A reader that works in batches is so woken once a batch.
func (c *Cursor[T]) NextAt(ctx context.Context, at time.Duration) (*T, error) {
	return c.read(ctx, at)
}

// always is the time of NextAt that waits for any entry.
const always time.Duration = -1 << 63

func (c *Cursor[T]) read(ctx context.Context, at time.Duration) (*T, error) {
	l := c.log
	for {
		closed := l.closed.Load() // before head: then head is final
		head := l.head.Load()     // before ring: then the ring holds what head promises
		if c.awaiting {
			if s := l.lastSync.Load(); s > c.minSync && s > l.tail.Load() {
				c.next, c.awaiting = s-1, false
				continue
			}
		} else if c.next < head {
			r := l.ring.Load()
			v := r.slots[c.next&r.mask].Load()
			if v == nil || l.tail.Load() > c.next {
				c.lapped()
				return nil, ErrLapped
			}
			c.next++
			return v, nil
		}
		if closed {
			return nil, io.EOF
		}
		var err error
		if at == always || c.awaiting {
			err = c.park(ctx, head)
		} else {
			err = c.doze(ctx, head, at)
		}
		if err != nil {
			return nil, err
		}
	}
}

func (c *Cursor[T]) lapped() {
	l, was := c.log, c.next
	l.laps.Add(1)
	c.seekSync(was + 1)
	n := c.next - was
	if c.awaiting { // what is appended until the sync point comes is not counted
		n = l.head.Load() - was
	}
	c.lost += n
	l.lost.Add(n)
}

// Lost is the number of entries this cursor skipped because it was lapped.
func (c *Cursor[T]) Lost() uint64 { return c.lost }

// Position is the sequence number Next will return, unless it is lapped or
// awaits a sync point.
func (c *Cursor[T]) Position() uint64 { return c.next }
