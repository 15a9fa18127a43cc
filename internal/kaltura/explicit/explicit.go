// Package explicit follows what a producer does to an entry with explicitLive
// while it is on air: the entry begins in preview, seen by few and not
// recorded, until the producer goes live; the recording may be begun and ended
// apart from that.
//
// The backend tells nobody of it, and keep-alives are too rare: viewers would
// be kept out, and the beginning not recorded, for most of a minute. So entries
// whose producer may be about to do something are read every few seconds.
package explicit

import (
	"context"
	"log/slog"
	"time"

	"github.com/klive-media/klive/internal/egress"
	"github.com/klive-media/klive/internal/kaltura/book"
	"github.com/klive-media/klive/internal/kaltura/client"
	"github.com/klive-media/klive/internal/run"
	"github.com/klive-media/klive/internal/stream"
)

const (
	// lookEach is how often a waiting entry is read.
	lookEach = 5 * time.Second
	// callTimeout bounds one reading: the next is not far.
	callTimeout = 4 * time.Second
	// atOnce is how many entries are read at once.
	atOnce = 8
)

// The numbers of viewMode and recordingStatus.
const (
	viewPreview     = 0
	recordingActive = 2
)

// Options are what a Follower needs; all are required but Logger.
type Options struct {
	Client *client.Client
	Book   *book.Book
	Live   stream.Live
	// Wanted is whether and how an entry is to be recorded.
	Wanted func(client.Entry) egress.RecordingMode
	// Record sets it for a broadcast that lives; it does nothing when it is so
	// already.
	Record func(entry string, index int, mode egress.RecordingMode) error
	Logger *slog.Logger
}

// Follower keeps what is recorded, and what the book says of who may watch, as
// the producers wish.
type Follower struct{ o Options }

// New makes a follower.
func New(o Options) *Follower {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Follower{o}
}

// Run follows until ctx ends.
func (f *Follower) Run(ctx context.Context) error {
	tick := time.NewTicker(lookEach)
	defer tick.Stop()
	for {
		changed := f.o.Book.Changed()
		f.apply()
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-changed:
		case <-tick.C:
			if err := f.look(ctx); err != nil {
				return err
			}
		}
	}
}

// apply has every broadcast recorded as its entry says.
func (f *Follower) apply() {
	for _, g := range f.onAir() {
		if err := f.o.Record(g.Entry, g.Index, f.o.Wanted(g.Snapshot)); err != nil {
			f.o.Logger.Warn("a wish to record would not survive a restart", "entry", g.Entry, "error", err)
		}
	}
}

// onAir are the grants of entries with explicitLive whose broadcast lives.
func (f *Follower) onAir() []book.Grant {
	var out []book.Grant
	for _, g := range f.o.Book.List() {
		if !bool(g.Snapshot.ExplicitLive) || !g.Ended.IsZero() {
			continue
		}
		status, ok := f.o.Live.Status(g.Entry)
		if !ok {
			continue
		}
		for _, b := range status.Broadcasts {
			if b.ServerIndex == g.Index && b.State.Live() {
				out = append(out, g)
			}
		}
	}
	return out
}

// waits reports whether a producer may be about to do something that cannot
// wait: to show the entry, or to record it.
func waits(e client.Entry) bool {
	return e.ViewMode == viewPreview || e.Record != 0 && e.RecordingStatus != recordingActive
}

// look reads the entries that wait, each once, a few at a time.
func (f *Follower) look(ctx context.Context) error {
	entries := make(map[string][]book.Grant)
	for _, g := range f.onAir() {
		if waits(g.Snapshot) {
			entries[g.Entry] = append(entries[g.Entry], g)
		}
	}
	g := run.New(ctx)
	room := make(chan struct{}, atOnce)
	for _, grants := range entries {
		room <- struct{}{}
		err := g.Go("read entry "+grants[0].Entry, func(ctx context.Context) error {
			defer func() { <-room }()
			f.read(ctx, grants)
			return nil
		})
		if err != nil {
			<-room // ctx has ended
		}
	}
	return g.Wait()
}

// read reads an entry and notes what is new.
func (f *Follower) read(ctx context.Context, grants []book.Grant) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	e, err := f.o.Client.PollEntry(ctx, grants[0].Partner, grants[0].Entry)
	if err != nil || string(e.ID) != grants[0].Entry { // the next reading is not far
		return
	}
	for _, g := range grants {
		old := g.Snapshot
		if e.ViewMode == old.ViewMode && e.RecordingStatus == old.RecordingStatus {
			continue
		}
		if _, _, err := f.o.Book.Update(ctx, g.Key(), func(g *book.Grant) { g.Snapshot = e }); err != nil && ctx.Err() == nil {
			f.o.Logger.Warn("what a producer did to an entry could not be noted", "entry", g.Entry, "error", err)
		}
	}
}
