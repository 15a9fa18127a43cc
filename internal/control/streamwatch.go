package control

import (
	"cmp"
	"container/list"
	"context"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	klivev1 "github.com/klive-media/klive/gen/klive/v1"
	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/stream"
)

// The pace and the memory of the board.
const (
	// refreshPause keeps a storm of changes from becoming a storm of lists: what
	// changes within it is sent once, as it is at its end.
	refreshPause = 50 * time.Millisecond
	// refreshRetry is the pause after the authority could not be asked.
	refreshRetry = time.Second
	// maxGone bounds how many deleted streams are remembered for watchers that
	// resume. Beyond it the oldest is forgotten and who needs it lists again.
	maxGone = 1024
)

// board is the last known picture of every stream, in the order in which they
// last changed. All watches read it: a watcher that is at change number n
// takes what changed after n, so a slow one gets fewer messages and never an
// old one, and nothing is queued for anybody.
//
// While nobody watches, the board rests and costs nothing.
type board struct {
	entries stream.Entries
	live    stream.Live
	epoch   string // tells the change numbers of this run from those of another

	mu      sync.Mutex               // guards the fields below
	order   *list.List               // of *row, oldest change first
	byID    map[string]*list.Element // the rows that order holds
	seq     uint64                   // number of the newest change
	floor   uint64                   // changes up to here may have been forgotten
	gone    int                      // rows that are gone
	changed chan struct{}            // closed at the next change
	watches int
	wanted  uint64 // refreshes that were asked for
	done    uint64 // the newest of them that was answered
	failure error  // how the last refresh failed; nil when it worked
	asked   chan struct{}
}

// row is one stream on the board. Its message is immutable.
type row struct {
	id      string
	seq     uint64
	message *klivev1.Stream // nil: the stream is gone

	version  uint64 // of the status, 0: none
	revision uint64 // of the entry
	updated  time.Time
	hasEntry bool
}

func newBoard(entries stream.Entries, live stream.Live, epoch string) *board {
	return &board{
		entries: entries, live: live, epoch: epoch,
		order: list.New(), byID: make(map[string]*list.Element),
		changed: make(chan struct{}), asked: make(chan struct{}, 1),
	}
}

// run keeps the board up to date until ctx ends.
func (b *board) run(ctx context.Context) error {
	var entriesChanged, liveChanged <-chan struct{}
	for {
		if !b.watched() {
			entriesChanged, liveChanged = nil, nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-entriesChanged:
		case <-liveChanged:
		case <-b.asked:
		}
		for {
			var pause time.Duration
			if entriesChanged, liveChanged, pause = b.refresh(ctx); !sleep(ctx, pause) {
				return nil
			}
			if pause != refreshRetry || !b.watched() {
				break
			}
		}
	}
}

// sleep reports false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

func (b *board) watched() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.watches > 0
}

// refresh asks both sources and takes over what changed. The channels are
// those of before the asking, so that nothing falls between.
func (b *board) refresh(ctx context.Context) (entriesChanged, liveChanged <-chan struct{}, pause time.Duration) {
	b.mu.Lock()
	wanted := b.wanted
	b.mu.Unlock()

	entriesChanged = b.entries.Changed()
	entries, err := b.entries.List(ctx)
	statuses, liveChanged := b.live.Statuses()

	b.mu.Lock()
	defer b.mu.Unlock()
	before := b.seq
	if b.failure = err; err == nil {
		b.take(merge(entries, statuses))
		pause = refreshPause
	} else {
		pause = refreshRetry
	}
	if b.seq != before || b.done != wanted {
		b.done = wanted
		close(b.changed)
		b.changed = make(chan struct{})
	}
	return entriesChanged, liveChanged, pause
}

// take compares the streams with the rows. b.mu is held.
func (b *board) take(streams []known) {
	for _, k := range streams {
		b.put(k)
	}
	if len(b.byID)-b.gone == len(streams) {
		return
	}
	alive := make(map[string]bool, len(streams))
	for _, k := range streams {
		alive[k.id] = true
	}
	for e := b.order.Front(); e != nil; {
		r, next := e.Value.(*row), e.Next()
		if r.message != nil && !alive[r.id] {
			b.replace(e, row{id: r.id})
			b.gone++
		}
		e = next
	}
	b.forget()
}

// put takes over one stream if it changed. b.mu is held.
func (b *board) put(k known) {
	r := row{id: k.id}
	if k.status != nil {
		r.version = k.status.Version
	}
	if k.entry != nil {
		r.hasEntry, r.revision, r.updated = true, k.entry.Revision, k.entry.Updated
	}
	e, ok := b.byID[k.id]
	if ok {
		old := e.Value.(*row)
		same := old.message != nil && old.version == r.version && old.hasEntry == r.hasEntry &&
			old.revision == r.revision && old.updated.Equal(r.updated)
		if same {
			return
		}
		r.message = streamProto(k)
		if old.message != nil && proto.Equal(old.message, r.message) {
			old.version, old.revision, old.updated, old.hasEntry = r.version, r.revision, r.updated, r.hasEntry
			return
		}
		if old.message == nil {
			b.gone--
		}
		b.replace(e, r)
		return
	}
	r.message = streamProto(k)
	b.seq++
	r.seq = b.seq
	b.byID[k.id] = b.order.PushBack(&r)
}

// replace puts r in the place of e's row, as the newest change. b.mu is held.
func (b *board) replace(e *list.Element, r row) {
	b.seq++
	r.seq = b.seq
	e.Value = &r
	b.order.MoveToBack(e)
}

// forget drops the oldest of too many deleted streams. b.mu is held.
func (b *board) forget() {
	for e := b.order.Front(); e != nil && b.gone > maxGone; {
		r, next := e.Value.(*row), e.Next()
		if r.message == nil {
			b.order.Remove(e)
			delete(b.byID, r.id)
			b.gone--
			b.floor = r.seq
		}
		e = next
	}
}

// join adds a watcher and waits until the board is as new as the call. The
// caller must leave.
func (b *board) join(ctx context.Context) error {
	b.mu.Lock()
	b.watches++
	b.wanted++
	mine := b.wanted
	b.mu.Unlock()
	select {
	case b.asked <- struct{}{}:
	default: // somebody else has asked and was not heard yet
	}
	for {
		b.mu.Lock()
		done, failure, changed := b.done, b.failure, b.changed
		b.mu.Unlock()
		if done >= mine {
			return failure
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-changed:
		}
	}
}

func (b *board) leave() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.watches--
}

// snapshot is every stream that exists, ordered by id, the number of the
// newest change in it, and what tells of the next.
func (b *board) snapshot() (rows []row, seq uint64, changed <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	rows = make([]row, 0, len(b.byID)-b.gone)
	for e := b.order.Front(); e != nil; e = e.Next() {
		if r := e.Value.(*row); r.message != nil {
			rows = append(rows, *r)
		}
	}
	slices.SortFunc(rows, func(a, b row) int { return strings.Compare(a.id, b.id) })
	return rows, b.seq, b.changed
}

// since is what changed after the change with that number, oldest first.
func (b *board) since(after uint64) (rows []row, seq uint64, changed <-chan struct{}, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if after < b.floor || after > b.seq {
		return nil, 0, nil, errWatchLost()
	}
	for e := b.order.Back(); e != nil; e = e.Prev() {
		r := e.Value.(*row)
		if r.seq <= after {
			break
		}
		rows = append(rows, *r)
	}
	slices.SortFunc(rows, func(a, b row) int { return cmp.Compare(a.seq, b.seq) })
	return rows, b.seq, b.changed, nil
}

func errWatchLost() error {
	return fault.New(fault.WatchLost, "the watch cannot be resumed here; list again and watch without a resume token")
}

// token makes the resume token of a change.
func (b *board) token(seq uint64) string {
	return b.epoch + "." + strconv.FormatUint(seq, 36)
}

// parseToken reads a resume token. One of another run of the server, or one
// that is none, cannot be resumed.
func (b *board) parseToken(token string) (uint64, error) {
	epoch, text, _ := strings.Cut(token, ".")
	seq, err := strconv.ParseUint(text, 36, 64)
	if err != nil || epoch != b.epoch {
		return 0, errWatchLost()
	}
	return seq, nil
}
