package stream

import (
	"context"
	"crypto/rand"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/klive-media/klive/internal/egress"
	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/ingest"
	"github.com/klive-media/klive/internal/pipeline"
	"github.com/klive-media/klive/internal/run"
	"github.com/klive-media/klive/internal/segment"
)

// Limits are the registry's times and bounds.
type Limits struct {
	// ReconnectWindow is how long a broadcast waits for a publisher.
	ReconnectWindow time.Duration
	// TakeoverAfter is how long a publisher may be silent before a newcomer with
	// a valid token takes its place.
	TakeoverAfter time.Duration
	// IdleTimeout ends a session that sends no media for so long.
	IdleTimeout time.Duration
	// MaxStreams on air at once; 0: no limit.
	MaxStreams int
	// Log bounds the packet log of each rendition.
	Log pipeline.Bounds
}

// How long what has ended is still shown, and how much of it.
const (
	keepEnded         = 10 * time.Minute
	keepEndedSessions = 1000
	// tick is how often silence, deadlines and bitrates are looked at: by one
	// goroutine for all sessions.
	tick = 200 * time.Millisecond
)

// Options are what a Registry needs; all are required but Outputs and Logger.
type Options struct {
	Authority Authority
	Store     segment.Store
	Journal   Journal
	Limits    Limits
	// Outputs are run once for each broadcast.
	Outputs []egress.Output
	Logger  *slog.Logger
}

// Registry is everything that is on air. It is the gate of every door.
type Registry struct {
	opts  Options
	log   *slog.Logger
	epoch time.Time                 // what silence is measured from: its clock never steps
	group atomic.Pointer[run.Group] // of Run; nil before

	restored chan struct{} // closed when what a restart interrupted is back

	counters Counters
	refusals *refusals

	mu         sync.Mutex // guards the fields below, and the same of broadcasts, renditions and sessions
	draining   error      // why nobody is let in any more; nil while serving
	closed     bool       // no broadcast begins any more
	places     map[place]*session
	sessions   map[string]*session // living, by id
	ended      []*session          // newest last
	broadcasts map[segment.ShelfID]*broadcast
	past       map[segment.ShelfID]*broadcast // the one that ended last
	stopped    map[string]stopping            // by stream
	versions   map[string]uint64
	changed    chan struct{}
}

// place is what one publisher holds: a stream name at a server index.
type place struct {
	shelf segment.ShelfID
	index int
}

// stopping is a stream that was stopped: why, and until when nobody is let in.
type stopping struct {
	until time.Time
	cause *fault.Error
}

var (
	_ ingest.Gate    = (*Registry)(nil)
	_ ingest.Witness = (*Registry)(nil)
	_ Live           = (*Registry)(nil)
)

// NewRegistry makes a registry; Run must be running before it lets anybody in.
func NewRegistry(o Options) *Registry {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Registry{
		opts: o, log: o.Logger, epoch: time.Now(), refusals: newRefusals(),
		restored:   make(chan struct{}),
		places:     make(map[place]*session),
		sessions:   make(map[string]*session),
		broadcasts: make(map[segment.ShelfID]*broadcast),
		past:       make(map[segment.ShelfID]*broadcast),
		stopped:    make(map[string]stopping),
		versions:   make(map[string]uint64),
		changed:    make(chan struct{}),
	}
}

// Run continues what a restart interrupted and then keeps the time of
// everything on air, until ctx ends: then publishers are told to come back,
// what is cut is closed, and broadcasts are left on their shelves so that the
// next run of the server can continue them.
func (r *Registry) Run(ctx context.Context) error {
	g := run.New(context.WithoutCancel(ctx)) // cutting outlives ctx until the logs are closed
	r.restore(g)
	r.group.Store(g)
	close(r.restored)
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for {
		select {
		case now := <-ticker.C:
			r.keepTime(now)
		case <-ctx.Done():
			r.shutDown()
			return g.Wait()
		}
	}
}

// Restored is closed once everything that a restart interrupted is among the
// statuses: who compares them with what it remembers waits for it.
func (r *Registry) Restored() <-chan struct{} { return r.restored }

// Drain lets no new publisher in; cause is what they are told. Who is on air
// goes on.
func (r *Registry) Drain(cause error) {
	r.mu.Lock()
	r.draining = cause
	r.touch("")
	r.mu.Unlock()
}

// Draining reports whether Drain was called.
func (r *Registry) Draining() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.draining != nil
}

// Publishers is how many sessions live.
func (r *Registry) Publishers() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.sessions)
}

// shutDown dismisses every publisher and closes every log without ending the
// broadcasts. Run waits for their outputs.
func (r *Registry) shutDown() {
	cause := fault.New(fault.ServerDraining, "the server is shutting down; please reconnect")
	r.Drain(cause)
	r.mu.Lock()
	r.closed = true
	for _, s := range r.sessions {
		s.dismiss(cause)
	}
	open := make([]*broadcast, 0, len(r.broadcasts))
	var ending []*broadcast
	for _, b := range r.broadcasts {
		if b.leaving {
			ending = append(ending, b)
			continue
		}
		b.leaving = true
		open = append(open, b)
	}
	r.mu.Unlock()
	for _, b := range open {
		<-b.ready
		r.mu.Lock()
		b.closeLogs()
		r.mu.Unlock()
		if b.err != nil { // it never began
			continue
		}
		if err := b.group.Wait(); err != nil { // what is cut has to reach the store before the store stops
			r.log.Error("a broadcast was left with an error", "stream", b.shelf.Stream, "error", err)
		}
		b.leave(egress.ErrLeaving)
	}
	for _, b := range ending { // by somebody else
		<-b.gone
	}
}

// touch makes a change of the stream visible; r.mu is held.
func (r *Registry) touch(stream string) {
	if stream != "" {
		r.versions[stream]++
	}
	close(r.changed)
	r.changed = make(chan struct{})
}

// keepTime does what time asks for: silent sessions, deadlines, bitrates, and
// forgetting.
func (r *Registry) keepTime(now time.Time) {
	var over []*broadcast
	r.mu.Lock()
	for _, s := range r.sessions {
		s.sample(now)
		if idle := now.Sub(s.lastMedia()); r.opts.Limits.IdleTimeout > 0 && idle >= r.opts.Limits.IdleTimeout {
			s.dismiss(s.idleCause(r.opts.Limits.IdleTimeout))
		}
	}
	for _, b := range r.broadcasts {
		if !b.deadline.IsZero() && !now.Before(b.deadline) && !b.leaving {
			b.leaving = true
			over = append(over, b)
		}
	}
	for id, s := range r.stopped {
		if now.After(s.until) {
			delete(r.stopped, id)
		}
	}
	r.forget(now)
	r.mu.Unlock()
	cause := fault.New(fault.ReconnectWindowOver, "no publisher came back within the reconnect window")
	for _, b := range over {
		// On its own: closing files takes time that other deadlines do not have.
		err := r.group.Load().Detach("end "+b.shelf.Stream, func(context.Context) error {
			r.end(b, cause)
			return nil
		}, nil)
		if err != nil {
			r.end(b, cause)
		}
	}
	for _, e := range r.refusals.due(now) {
		r.opts.Journal.Record(e)
	}
}

// forget drops what ended long ago; r.mu is held.
func (r *Registry) forget(now time.Time) {
	n := max(0, len(r.ended)-keepEndedSessions)
	for n < len(r.ended) && now.Sub(r.ended[n].end) > keepEnded {
		n++
	}
	if n > 0 {
		clear(r.ended[:n])
		r.ended = r.ended[n:]
	}
	for id, b := range r.past {
		if now.Sub(b.end) > keepEnded {
			delete(r.past, id)
			r.touch(id.Stream)
		}
	}
}

// newID makes a 128-bit random identifier in lower-case base 32.
func newID() string { return lower(rand.Text()) }

func lower(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}
