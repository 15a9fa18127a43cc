// Package delivery hands recorded pieces to a Kaltura backend: each once, in
// order, however long the backend is away and however often the server is
// restarted in between.
//
// Queue is the type to read first. It looks at what the recorder has finished
// and keeps one durable row for each piece. Rows of one entry, server index
// and rendition form a lane: they are sent strictly in order, one at a time;
// lanes do not wait for each other.
//
// appendRecording must not be repeated: the same call twice doubles the piece
// in the recording. So a row says that a call is about to be made (SENDING)
// before it is made. When the answer is lost, or the server ends before it
// comes, the row is still there, and it is decided from what the backend shows
// whether the piece arrived (doubt.go). Where that cannot be told, the piece is
// IN_DOUBT until a person decides, by Retry or by Accept: it is neither sent
// again nor forgotten.
package delivery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/nats-io/nuid"

	"github.com/klive-media/klive/internal/kaltura/book"
	"github.com/klive-media/klive/internal/kaltura/client"
	"github.com/klive-media/klive/internal/kaltura/profile"
	"github.com/klive-media/klive/internal/run"
	"github.com/klive-media/klive/internal/store"
	"github.com/klive-media/klive/internal/stream"
)

// Way is how files reach the backend.
type Way uint8

// The ways.
const (
	SharedDisk Way = iota // the backend reads them on a disk it shares with this server
	Upload                // they are uploaded
)

const bucketName = "kaltura-deliveries"

// DefaultChunkSize is how much of a file one call uploads.
const DefaultChunkSize = 8 << 20

// DefaultMaxRecorded is how much of one recording a backend takes, in its own
// default configuration: a day and an hour.
const DefaultMaxRecorded = 25 * time.Hour

// Options is what a Queue is made of. Client, Store and Recordings are
// required.
type Options struct {
	Client     *client.Client
	Book       *book.Book // nil: Profile alone knows the assets
	Store      *store.Store
	Recordings stream.Recordings
	Journal    stream.Journal // nil: no events
	Logger     *slog.Logger   // nil: silent
	Way        Way
	// SharedDir is where pieces are handed over on a shared disk: the backend
	// may take them away from there. "": it is given the recording's own files,
	// which it must leave.
	SharedDir string
	// BackendDir is SharedDir as the backend sees it; "": the same.
	BackendDir string
	// WorkDir takes files that are made for the backend: whole recordings.
	WorkDir   string
	ChunkSize int64 // bytes; DefaultChunkSize when 0
	// Group is the id of a group that may read what is made for the backend:
	// copies, joined files and their folder; 0 and less: none. Hard links are the
	// recorder's own files and stay as they are.
	Group int
	// Profile reads an entry's conversion profile, when the book has none or
	// the backend does not know its assets any more.
	Profile func(ctx context.Context, partner int, entry string) (profile.Profile, error)
	// MaxRecorded is what a backend takes of one recording: a piece that would
	// pass it is refused here, because the backend, once it is passed, refuses
	// all that comes later, also of renditions that lag behind. 0:
	// DefaultMaxRecorded; negative: the backend alone decides.
	MaxRecorded time.Duration

	rows records // instead of a bucket of Store
}

// The times of the queue.
const (
	firstBackoff = time.Second
	maxBackoff   = time.Minute
	// grace is how long a call that is under way when the server stops may wait
	// for its answer: every answer that comes is a doubt less.
	grace = 10 * time.Second
	// linkLife is how long a file that was handed over stays for the backend,
	// which may read it after it has answered; and how long the rows of a
	// recording outlive it.
	linkLife  = 24 * time.Hour
	sweepEach = time.Hour
	tidyAgain = time.Minute // after the first sweep
)

// maxLanes is how many lanes are worked on at once.
const maxLanes = 8

// maxFails is after how many tries in a row an error that nobody knows is
// taken for a refusal: about half an hour.
const maxFails = 30

// Queue is the durable queue of pieces. It is safe for concurrent use.
type Queue struct {
	opts Options
	rows records
	log  *slog.Logger
	run  string // this process, in the intents it writes

	wake chan struct{} // there may be something to start
	kick chan struct{} // the recordings should be looked at

	unfinished unfinished // watch's own

	mu       sync.Mutex // guards the fields below
	table    map[pieceID]*row
	lanes    map[laneID]*lane
	known    map[string]*known // recordings, as seen last
	broken   map[string]bool   // keys whose rows cannot be read: not to be sent
	changed  chan struct{}
	free     int       // lanes that may still be started
	down     bool      // the last call had no answer
	hurried  time.Time // when those that found the backend away were let try again
	profiles map[string]profile.Profile
	lengths  map[string]length // by entry, as the last answer to an append said
	counts   counts
	unshared bool // the group could not be given, the last time
}

// length is how long the backend's recording of an entry is.
type length struct {
	recorded string // the entry that is made of it
	sum      time.Duration
}

// counts are what happened since the start.
type counts struct{ delivered, doubted, refused, accepted uint64 }

// known is what the queue knows of a recording beside its rows.
type known struct {
	ours    bool      // its pieces are delivered
	carrier pieceID   // the row that stands for the whole, once that is complete
	gone    time.Time // since when the recorder does not list it; zero: it does
	// complete is how many pieces it has, once it ended and all have rows; else 0.
	complete int
	packed   *packed // its rows are not in memory; nil: they are
}

var _ stream.Deliveries = (*Queue)(nil)

// New reads the rows that are there. Nothing is sent before Run.
func New(ctx context.Context, o Options) (*Queue, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.ChunkSize <= 0 {
		o.ChunkSize = DefaultChunkSize
	}
	if o.MaxRecorded == 0 {
		o.MaxRecorded = DefaultMaxRecorded
	}
	if o.SharedDir != "" {
		dir, err := filepath.Abs(o.SharedDir)
		if err != nil {
			return nil, fmt.Errorf("find the shared folder: %w", err)
		}
		if o.SharedDir = dir; o.BackendDir == "" {
			o.BackendDir = dir
		}
	}
	q := &Queue{
		opts: o, rows: o.rows, log: o.Logger.With("component", "delivery"), run: nuid.Next(),
		wake: make(chan struct{}, 1), kick: make(chan struct{}, 1),
		table: map[pieceID]*row{}, lanes: map[laneID]*lane{}, known: map[string]*known{}, broken: map[string]bool{},
		unfinished: newUnfinished(), changed: make(chan struct{}), free: maxLanes, profiles: map[string]profile.Profile{}, lengths: map[string]length{},
	}
	if q.rows == nil {
		bucket, err := o.Store.Bucket(ctx, bucketName)
		if err != nil {
			return nil, fmt.Errorf("open the deliveries: %w", err)
		}
		q.rows = bucket
	}
	all, err := q.rows.List(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the deliveries: %w", err)
	}
	for _, rec := range all {
		r, err := decodeRow(rec.Key, rec.Value, rec.Revision)
		if err != nil {
			// Perhaps it was sent, perhaps not. When the recorder lists the piece
			// it is shown as in doubt.
			q.log.Error("a delivery cannot be read; the piece is in doubt", "key", rec.Key, "error", err)
			q.broken[rec.Key] = true
			continue
		}
		if r.State == sending && r.Intent != nil {
			// The clock may have been set in between: wait anew.
			r.Intent.Asked = time.Now()
		}
		q.place(r)
	}
	return q, nil
}

// Run delivers until ctx ends. Calls that are under way then are given a short
// while to be answered.
func (q *Queue) Run(ctx context.Context) error {
	g := run.New(ctx)
	for name, fn := range map[string]func(context.Context) error{
		"delivery rows":  q.watch,
		"delivery sweep": q.tidy,
		"delivery lanes": func(ctx context.Context) error { q.dispatch(ctx, g); return nil },
	} {
		if err := g.Go(name, fn); errors.Is(err, run.ErrClosed) { // ctx has ended
			break
		}
	}
	return g.Wait()
}

// Resync looks at the recordings and tries everything that waits, at once.
func (q *Queue) Resync() {
	q.mu.Lock()
	for _, l := range q.lanes {
		l.until = time.Time{}
	}
	q.hurry(func(r *row) bool { return r.State == queued })
	q.mu.Unlock()
	signal(q.kick)
	signal(q.wake)
}

// hurry lets the rows at the heads of lanes be tried at once; q.mu is held.
func (q *Queue) hurry(which func(*row) bool) {
	for _, l := range q.lanes {
		if r := q.head(l); r != nil && !r.next.IsZero() && which(r) {
			now := r.copy()
			now.next = time.Time{}
			q.place(now)
		}
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// notify tells those who wait for a change; q.mu is held.
func (q *Queue) notify() {
	close(q.changed)
	q.changed = make(chan struct{})
}
