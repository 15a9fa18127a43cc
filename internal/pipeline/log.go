// Package pipeline is how packets move and how time is repaired; nothing else.
//
// Log is the type to read first: a bounded broadcast log with one writer and
// any number of cursors. It takes the place of a queue per viewer, a callback
// per muxer and a hook per recorder. Appending stores one pointer whatever the
// number of readers; the ring is also the GOP cache; a reader that is too slow
// is lapped, told so once, and goes on at the newest sync point.
package pipeline

import (
	"errors"
	"sync/atomic"
	"time"
)

// ErrLapped is returned once by Cursor.Next when the writer overtook the
// cursor. The next call resumes at the newest sync point; Cursor.Lost counts
// what was skipped.
var ErrLapped = errors.New("pipeline: reader was lapped")

// Bounds limit what a Log keeps. A zero field means the default of the field.
type Bounds struct {
	Bytes   int           // sum of weights; default 8 MiB
	Time    time.Duration // newest minus oldest; default 4 s
	Entries int           // default 32768, rounded up to a power of two
}

const (
	defaultBytes   = 8 << 20
	defaultTime    = 4 * time.Second
	defaultEntries = 32768
	firstRing      = 128
)

func (b Bounds) withDefaults() Bounds {
	if b.Bytes <= 0 {
		b.Bytes = defaultBytes
	}
	if b.Time <= 0 {
		b.Time = defaultTime
	}
	if b.Entries <= 0 {
		b.Entries = defaultEntries
	}
	b.Entries = int(ceilPow2(uint64(b.Entries)))
	return b
}

func ceilPow2(n uint64) uint64 {
	p := uint64(1)
	for p < n {
		p <<= 1
	}
	return p
}

// Log is a bounded broadcast log. One goroutine at a time may call Append and
// Close; everything else may be called from anywhere.
//
// Entries have sequence numbers from 0. tail ≤ seq < head are readable. The
// writer moves tail on before it clears or overwrites a slot, so a reader that
// finds tail ≤ seq after it loaded the slot holds the right entry.
type Log[T any] struct {
	bounds Bounds
	weigh  func(*T) (bytes int, at time.Duration)

	ring     atomic.Pointer[ring[T]]
	head     atomic.Uint64 // next sequence number to be written
	tail     atomic.Uint64 // oldest readable sequence number
	lastSync atomic.Uint64 // 1 + sequence number of the newest sync point; 0: none yet
	closed   atomic.Bool
	bytes    atomic.Int64
	span     atomic.Int64 // nanoseconds between oldest and newest
	laps     atomic.Uint64
	lost     atomic.Uint64
	syncWait atomic.Uint64

	shards [shardCount]shard[T]
	next   atomic.Uint32 // which shard the next cursor parks in
	snooze snoozers[T]

	weights []weight // the writer's own, beside the ring's slots
}

type ring[T any] struct {
	slots []atomic.Pointer[T]
	mask  uint64
}

type weight struct {
	bytes int
	at    time.Duration
}

// NewLog makes an empty log. weigh tells the size in bytes and the time of an
// entry; it is called once per entry, by the writer.
func NewLog[T any](b Bounds, weigh func(*T) (bytes int, at time.Duration)) *Log[T] {
	l := &Log[T]{bounds: b.withDefaults(), weigh: weigh}
	l.snooze.until.Store(never)
	size := min(firstRing, l.bounds.Entries)
	l.ring.Store(newRing[T](size))
	l.weights = make([]weight, size)
	return l
}

func newRing[T any](size int) *ring[T] {
	return &ring[T]{slots: make([]atomic.Pointer[T], size), mask: uint64(size - 1)}
}

// Append adds v and wakes the readers. It never blocks and, once the ring has
// grown to what the bounds need, never allocates. The log keeps the pointer:
// *v must never be written again. sync says that a reader may start here.
// The newest entry is always kept, even when it alone passes the bounds.
// Append on a closed log does nothing.
func (l *Log[T]) Append(v *T, sync bool) {
	if l.closed.Load() {
		return
	}
	bytes, at := l.weigh(v)
	seq := l.head.Load()
	tail := l.evict(seq, bytes, at)

	r := l.ring.Load()
	if seq-tail == uint64(len(r.slots)) {
		if len(r.slots) < l.bounds.Entries {
			r = l.grow(r, tail, seq)
		} else {
			l.drop(r, tail)
		}
	}
	l.weights[seq&r.mask] = weight{bytes, at}
	l.bytes.Add(int64(bytes))
	r.slots[seq&r.mask].Store(v)
	l.span.Store(int64(at - l.weights[l.tail.Load()&r.mask].at))
	if sync {
		l.lastSync.Store(seq + 1) // before head: who is woken for it must see it
	}
	if at > time.Duration(l.snooze.newest.Load()) {
		l.snooze.newest.Store(int64(at))
	}
	l.head.Store(seq + 1)
	l.wake()
	if sync || int64(at) >= l.snooze.until.Load() {
		l.snooze.rouse(at, sync)
	}
}

// evict drops entries from the old end until one of this weight fits, and
// returns the new tail.
func (l *Log[T]) evict(seq uint64, bytes int, at time.Duration) uint64 {
	r, tail := l.ring.Load(), l.tail.Load()
	for tail < seq {
		w := l.weights[tail&r.mask]
		if l.bytes.Load()+int64(bytes) <= int64(l.bounds.Bytes) && at-w.at <= l.bounds.Time {
			break
		}
		l.drop(r, tail)
		tail++
	}
	return tail
}

func (l *Log[T]) drop(r *ring[T], tail uint64) {
	l.bytes.Add(-int64(l.weights[tail&r.mask].bytes))
	l.tail.Store(tail + 1) // before the slot changes: see Log
	r.slots[tail&r.mask].Store(nil)
}

// grow doubles the ring. Readers that hold the old one still find in it all
// that was appended before, as it is not written again.
func (l *Log[T]) grow(old *ring[T], tail, seq uint64) *ring[T] {
	r := newRing[T](2 * len(old.slots))
	weights := make([]weight, len(r.slots))
	for s := tail; s < seq; s++ {
		r.slots[s&r.mask].Store(old.slots[s&old.mask].Load())
		weights[s&r.mask] = l.weights[s&old.mask]
	}
	l.weights = weights
	l.ring.Store(r)
	return r
}

// Close ends the log: readers get what is left and then io.EOF.
func (l *Log[T]) Close() {
	l.closed.Store(true)
	l.wake()
	l.snooze.rouse(0, true)
}

// Stats is a snapshot of a log's gauges and counters.
type Stats struct {
	Entries   int           // readable now
	Bytes     int64         // their weight
	Span      time.Duration // newest minus oldest
	Head      uint64        // appended since the beginning
	Laps      uint64        // times a cursor was lapped
	Lost      uint64        // entries that lapped cursors skipped
	SyncWaits uint64        // times a reader had to wait for a sync point
}

// Stats may be called at any time; its fields are read one by one.
func (l *Log[T]) Stats() Stats {
	tail, head := l.tail.Load(), l.head.Load()
	return Stats{
		Entries: int(head - tail), Bytes: l.bytes.Load(), Span: time.Duration(l.span.Load()), Head: head,
		Laps: l.laps.Load(), Lost: l.lost.Load(), SyncWaits: l.syncWait.Load(),
	}
}
