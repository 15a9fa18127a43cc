// Package record writes broadcasts to disk as pieces: progressive MP4 files
// that begin with a key frame and, joined, are the whole.
//
// It makes no media of its own: it reads the finished segments off the shelf,
// where everybody else reads them. Each is copied to a work file soon after it
// is finished; when a piece is long enough, an MP4 is made of its work file and
// gets its name only once it is complete. So what is there after a crash is
// either a finished piece or a work file that goes on.
//
// Recorder is the type to read first. session.go is one broadcast, follow.go
// which piece a segment belongs to, grow.go how pieces grow, workfile.go how they
// are kept meanwhile, finish.go how they are finished, recover.go what a restart
// finds.
package record

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/klive-media/klive/internal/egress"
	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/run"
	"github.com/klive-media/klive/internal/segment"
	"github.com/klive-media/klive/internal/stream"
)

// Options configure a Recorder. Store and Dir are required.
type Options struct {
	Store segment.Store
	// Dir is where recordings are kept: <Dir>/<stream>/<recording>/…
	Dir string
	// SegmentDuration is how long a piece gets, at least, where key frames allow
	// it; 15 min.
	SegmentDuration time.Duration
	// Retention is how long a recording is kept after its end; 0: for good.
	Retention time.Duration
	// Group may read the pieces and list their folders, for a backend that runs
	// as another user: a group id; nil: nobody but the server's own user and group.
	Group *int
	// Held reports whether a piece must not be deleted yet; nil: none is held.
	Held func(recording, rendition string, number int) bool
	// Mark gives the payload of a sample of the data track: the n-th of the
	// rendition in this recording, from 0, at the wall clock at. nil, and where it
	// gives nothing: there is none. It must not block.
	Mark func(i egress.Info, rendition string, n int, at time.Time) []byte
	// MarkEvery is the stream time between two marks of a piece, the first of
	// which stands at its beginning; 60 s.
	MarkEvery time.Duration
	Journal   stream.Journal // nil: nobody wants to know
	Logger    *slog.Logger
}

const (
	defaultSegment = 15 * time.Minute
	defaultMark    = time.Minute
)

// Recorder records broadcasts. It implements egress.Output and
// stream.Recordings.
type Recorder struct {
	opts   Options
	log    *slog.Logger
	tokens chan struct{} // pieces that are finished at a time
	rooms  sync.Pool     // of *[roomSize]byte

	counters struct {
		pieces, errors, gaps atomic.Uint64
		bytes                atomic.Int64
	}

	// life is what pieces are finished in; Leave ends it.
	life *run.Group

	step func(string) error // for tests: called between two changes on disk, which it lets fail; nil: nobody

	mu      sync.Mutex // guards the fields below and those of the recordings
	all     map[string]*recording
	changed chan struct{}
}

var (
	_ egress.Output     = (*Recorder)(nil)
	_ stream.Recordings = (*Recorder)(nil)
)

// finishers is how many pieces are finished at a time: a disk that copies
// several large files at once does none of them sooner.
const finishers = 2

// New makes a recorder and reads what is in o.Dir, which it makes when it is
// missing. What cannot be read is logged and left as it is; only a Dir that
// cannot be made or listed is an error. Work that a crash interrupted goes on
// in Run, or in Serve for broadcasts that did not come back.
func New(o Options) (*Recorder, error) {
	if o.SegmentDuration <= 0 {
		o.SegmentDuration = defaultSegment
	}
	if o.MarkEvery <= 0 {
		o.MarkEvery = defaultMark
	}
	if o.Held == nil {
		o.Held = func(string, string, int) bool { return false }
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	r := &Recorder{
		opts: o, log: o.Logger, tokens: make(chan struct{}, finishers), life: run.New(context.Background()),
		all: make(map[string]*recording), changed: make(chan struct{}),
	}
	if err := os.MkdirAll(o.Dir, 0o750); err != nil {
		return nil, fmt.Errorf("make recordings folder: %w", err)
	}
	if err := r.shareFolder(o.Dir); err != nil {
		r.log.Warn("the recordings folder could not be given to the group that is to read it; give it by hand (chgrp, chmod g+rxs)", "error", err)
	}
	if err := r.recover(); err != nil {
		return nil, fmt.Errorf("read recordings: %w", err)
	}
	return r, nil
}

// Name implements egress.Output.
func (r *Recorder) Name() string { return "record" }

// recording is what is known of a recording. Its fields are guarded by
// Recorder.mu, but for those that do not change.
type recording struct {
	id   string
	dir  string
	info egress.Info // of its broadcast; does not change

	unshared   bool      // it was told that others cannot read it
	active     bool      // somebody records or ends it
	left       bool      // the server is stopping
	awaited    bool      // its broadcast was on air when the server ended
	idle       time.Time // since when nobody cares for it
	began      time.Time // wall clock of the first sample
	closing    time.Time // when its broadcast ended; zero: more may come
	end        time.Time // zero: not all pieces are finished
	deleting   bool
	err        string
	told       time.Time // when err was an event last
	gaps       []gap
	renditions map[string]*rendition
}

// rendition is one rendition's pieces.
type rendition struct {
	id     string
	pieces []*piece // by number
	marks  int      // samples of the data track in the finished pieces
	next   uint64   // number of the segment after the newest that was copied
	split  uint64   // the segment at which another piece begins; 0: none was asked for
}

// pieceState is how far a piece is.
type pieceState uint8

const (
	growing pieceState = iota
	waiting            // to be finished
	finished
)

// piece is one piece; its file and its work file are named by its number.
type piece struct {
	number   int
	state    pieceState
	start    time.Time
	offset   time.Duration
	duration time.Duration
	size     int64
}

// newest is the piece with the highest number, or nil.
func (d *rendition) newest() *piece {
	if len(d.pieces) == 0 {
		return nil
	}
	return d.pieces[len(d.pieces)-1]
}

// path is where a file of a piece is.
func (c *recording) path(rendition string, number int, ext string) string {
	return filepath.Join(c.dir, pieceName(c.info.Stream, rendition, c.info.ServerIndex, number)+ext)
}

// at tells tests how far the disk is; they may let it fail there.
func (r *Recorder) at(step string) error {
	if r.step != nil {
		return r.step(step)
	}
	return nil
}

// touch wakes who waits for Changed; mu is held.
func (r *Recorder) touch() {
	close(r.changed)
	r.changed = make(chan struct{})
}

// Changed implements stream.Recordings.
func (r *Recorder) Changed() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.changed
}

// List implements stream.Recordings.
func (r *Recorder) List(name string) []stream.Recording {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []stream.Recording
	for _, c := range r.all {
		if (name == "" || c.info.Stream == name) && !c.deleting {
			out = append(out, c.snapshot())
		}
	}
	slices.SortFunc(out, func(a, b stream.Recording) int {
		if d := b.Start.Compare(a.Start); d != 0 {
			return d
		}
		return strings.Compare(a.ID, b.ID)
	})
	return out
}

// Get implements stream.Recordings.
func (r *Recorder) Get(id string) (stream.Recording, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.all[id]
	if c == nil || c.deleting {
		return stream.Recording{}, false
	}
	return c.snapshot(), true
}

// snapshot is what others see of a recording; mu is held.
func (c *recording) snapshot() stream.Recording {
	out := stream.Recording{
		ID: c.id, Stream: c.info.Stream, ServerIndex: c.info.ServerIndex, Broadcast: c.info.Broadcast,
		Partner: c.info.Partner, Mode: c.info.Policy.Recording, Start: c.began, End: c.end, Err: c.err,
	}
	for _, id := range slices.SortedFunc(maps.Keys(c.renditions), compareRenditions) {
		d := c.renditions[id]
		for i, p := range d.pieces {
			x := stream.Piece{
				Rendition: id, Number: p.number, Start: p.start, Offset: p.offset, Duration: p.duration,
				Finished: p.state == finished, Last: !c.closing.IsZero() && i == len(d.pieces)-1,
				File: c.path(id, p.number, extWork),
			}
			if x.Finished {
				x.Size, x.File = p.size, c.path(id, p.number, extPiece)
			}
			out.Pieces = append(out.Pieces, x)
		}
	}
	return out
}

// Split implements stream.Recordings.
func (r *Recorder) Split(_ context.Context, name string) (int, error) {
	type growth struct {
		c *recording
		d *rendition
	}
	var list []growth
	r.mu.Lock()
	for _, c := range r.all {
		if c.info.Stream != name || !c.active || !c.closing.IsZero() {
			continue
		}
		for _, d := range c.renditions {
			if p := d.newest(); p != nil && p.state == growing {
				list = append(list, growth{c, d})
			}
		}
	}
	r.mu.Unlock()
	if len(list) == 0 {
		return 0, fault.New(fault.NotRecording, "nothing of %s is being recorded now; start a broadcast that is recorded first", name)
	}
	for _, g := range list {
		newest := uint64(0)
		if shelf, ok := r.opts.Store.Shelf(shelfOf(&g.c.info)); ok {
			newest = open(shelf, g.d.id, &g.c.info)
		}
		r.mu.Lock()
		g.d.split = max(g.d.next, newest+1)
		r.mu.Unlock()
	}
	return len(list), nil
}

// Stats are gauges and counters for metrics.
type Stats struct {
	Recordings int // known
	Open       int // that may still grow
	Pieces     uint64
	Bytes      int64 // written to work files and pieces
	Errors     uint64
	Gaps       uint64
}

// Stats is a snapshot; counters are since the start.
func (r *Recorder) Stats() Stats {
	st := Stats{
		Pieces: r.counters.pieces.Load(), Bytes: r.counters.bytes.Load(),
		Errors: r.counters.errors.Load(), Gaps: r.counters.gaps.Load(),
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	st.Recordings = len(r.all)
	for _, c := range r.all {
		if c.end.IsZero() {
			st.Open++
		}
	}
	return st
}

// event records an event of a recording.
func (r *Recorder) event(c *recording, t stream.EventType, message string, facts ...string) {
	if r.opts.Journal == nil {
		return
	}
	e := stream.Event{Type: t, Stream: c.info.Stream, Message: message, Facts: map[string]string{
		"recording": c.id, "broadcast": c.info.Broadcast, "server_index": fmt.Sprint(c.info.ServerIndex),
	}}
	if c.info.Partner != 0 {
		e.Facts["partner"] = fmt.Sprint(c.info.Partner)
	}
	for i := 0; i+1 < len(facts); i += 2 {
		e.Facts[facts[i]] = facts[i+1]
	}
	r.opts.Journal.Record(e)
}

// withoutPath is an error's text: paths are nobody's business.
func withoutPath(err error) string {
	text := err.Error()
	var path *os.PathError
	if errors.As(err, &path) {
		text = strings.ReplaceAll(text, path.Path, filepath.Base(path.Path))
	}
	return text
}

// tellEvery is how often trouble with a recording is an event.
const tellEvery = time.Minute

// failed notes that something went wrong with a recording.
func (r *Recorder) failed(c *recording, rendition string, err error) {
	r.counters.errors.Add(1)
	text := withoutPath(err)
	r.mu.Lock()
	now := time.Now()
	again := !c.told.IsZero() && now.Sub(c.told) < tellEvery
	c.err = text
	if !again {
		c.told = now
		r.touch()
	}
	r.mu.Unlock()
	if again {
		return
	}
	r.log.Error("a recording has trouble", "stream", c.info.Stream, "recording", c.id, "rendition", rendition, "error", err)
	r.event(c, stream.RecordingFailed, "the recording could not be written; it is tried again", "rendition", rendition, "error", text)
}
