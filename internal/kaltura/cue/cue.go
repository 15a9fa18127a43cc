// Package cue forwards cue points that an encoder sends inside its stream to
// the Kaltura backend: an AMF data message whose object says it is a cue point
// becomes cuePoint.add for the live entry.
//
// Forwarder is the type to read first. It is an output of every broadcast and
// reads the packets of one rendition, so that what an encoder repeats on each
// of its ingests is sent once.
package cue

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"time"

	"github.com/klive-media/klive/internal/egress"
	"github.com/klive-media/klive/internal/kaltura/client"
	"github.com/klive-media/klive/internal/media"
	"github.com/klive-media/klive/internal/observe"
	"github.com/klive-media/klive/internal/pipeline"
	"github.com/klive-media/klive/internal/run"
	"github.com/klive-media/klive/internal/stream"
)

// Times and bounds of what one broadcast may make the backend do.
const (
	// batch is how much media comes together before it is looked at: waking for
	// every packet would cost more than reading it.
	batch = 250 * time.Millisecond
	// lookEvery is how often it is asked whether the source has come, when
	// another rendition came first.
	lookEvery = 5 * time.Second
	// perSecond and burst bound the cue points that are taken, maxWaiting those
	// that wait for the backend.
	perSecond  = 2
	burst      = 20
	maxWaiting = 100
	// finishTime is how long what waits may take when the broadcast is over.
	finishTime  = 10 * time.Second
	callTimeout = 10 * time.Second // of one call
	// maxAttempts and retryPause are of a call that surely was not carried out.
	maxAttempts = 3
	retryPause  = 2 * time.Second
	// tellEvery bounds the events of one broadcast: they are kept for good.
	tellEvery = 10 * time.Second
)

// Options is what a Forwarder is made of; all are required but Logger.
type Options struct {
	Client  *client.Client
	Journal stream.Journal
	Logger  *slog.Logger
}

// Forwarder forwards cue points. Every broadcast has a queue of its own: a
// flood of one holds up no other.
type Forwarder struct{ options Options }

var _ egress.Output = (*Forwarder)(nil)

// New makes a forwarder.
func New(o Options) *Forwarder {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Forwarder{o}
}

// Name implements egress.Output.
func (f *Forwarder) Name() string { return "cue points" }

// Run implements egress.Output: it forwards the cue points of a broadcast
// until that ends, and then what waits, for some seconds. A broadcast without
// a partner has no backend and nothing is forwarded. It returns nil: cue
// points that could not be forwarded are told in the log.
func (f *Forwarder) Run(ctx context.Context, b egress.Broadcast) error {
	info := b.Info()
	if info.Partner == 0 {
		return nil
	}
	problems := observe.NewSampler(f.options.Logger.With("stream", info.Stream, "broadcast", info.Broadcast), slog.LevelWarn)
	defer problems.Flush()
	waiting := make(chan cuePoint, maxWaiting)
	s := &sender{Options: f.options, info: info, problems: problems}
	// The sender outlives ctx to finish its work.
	g := run.New(context.WithoutCancel(ctx))
	if err := g.Go("send cue points", func(ctx context.Context) error { s.run(ctx, waiting); return nil }); err != nil {
		return err
	}
	r := &reader{broadcast: b, info: info, waiting: waiting, problems: problems, room: burst}
	func() {
		defer close(waiting) // also when it panics: the sender waits for it
		r.run(ctx)
	}()
	patience := time.AfterFunc(finishTime, func() { g.Cancel(errors.New("the broadcast is over")) })
	defer patience.Stop()
	return g.Wait()
}

// reader looks for cue points in the packets of a broadcast. It belongs to the
// goroutine of Run.
type reader struct {
	broadcast egress.Broadcast
	info      egress.Info
	waiting   chan<- cuePoint
	problems  *observe.Sampler

	last   time.Duration // stream time of the newest packet
	room   float64       // cue points that may be taken now
	filled time.Time     // when room was computed
}

// run reads the source until the broadcast ends.
func (r *reader) run(ctx context.Context) {
	for ctx.Err() == nil {
		list, changed := r.broadcast.Renditions()
		if len(list) == 0 {
			select {
			case <-changed:
			case <-ctx.Done():
			}
			continue
		}
		if r.follow(ctx, list[0]) {
			return
		}
	}
}

// follow reads a rendition until the broadcast ends, which is true, or until
// another is the first, which is the source.
func (r *reader) follow(ctx context.Context, of pipeline.Rendition) (over bool) {
	c := of.Source.Subscribe(pipeline.Seq(0)) // whatever came before this goroutine
	r.last = 0
	for {
		look, cancel := context.WithTimeout(ctx, lookEvery)
		err := r.drain(look, c)
		cancel()
		if errors.Is(err, io.EOF) {
			return true
		}
		if ctx.Err() != nil {
			// What is there already is read all the same: a wait that ends is told
			// before it.
			_ = r.drain(ctx, c)
			return true
		}
		if list, _ := r.broadcast.Renditions(); len(list) == 0 || list[0].ID != of.ID {
			return false
		}
	}
}

// drain reads packets until there are none for as long as ctx lives, or no
// more for good, which is io.EOF.
func (r *reader) drain(ctx context.Context, c *pipeline.Cursor[media.Packet]) error {
	for {
		p, err := c.NextAt(ctx, r.last+batch)
		if errors.Is(err, pipeline.ErrLapped) {
			r.problems.Count("cue points may be lost: their reader was too slow", nil)
			continue
		}
		if err != nil {
			return err
		}
		r.last = p.DTS
		if p.Track.Codec == media.AMF0 {
			r.data(p)
		}
	}
}

// data takes a data packet that is a cue point.
func (r *reader) data(p *media.Packet) {
	cue, ok, err := parse(p.Payload)
	switch {
	case err != nil:
		r.problems.Count("a cue point of the encoder cannot be read", err)
	case !ok:
	case !r.spend(time.Now()):
		r.problems.Count("the encoder sends too many cue points; some are not forwarded", nil)
	default:
		select {
		case r.waiting <- cue:
		default:
			r.problems.Count("too many cue points wait for the backend; some are not forwarded", nil)
		}
	}
}

// spend takes the room of one cue point.
func (r *reader) spend(now time.Time) bool {
	if !r.filled.IsZero() {
		r.room = min(burst, r.room+max(0, now.Sub(r.filled).Seconds())*perSecond)
	}
	r.filled = now
	if r.room < 1 {
		return false
	}
	r.room--
	return true
}
