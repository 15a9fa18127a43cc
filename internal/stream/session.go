package stream

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/ingest"
	"github.com/klive-media/klive/internal/media"
	"github.com/klive-media/klive/internal/pipeline"
	"github.com/klive-media/klive/internal/segment"
)

// session is one publisher's connection; it is the door's ingest.Publication.
type session struct {
	reg       *Registry
	id        string
	shelf     segment.ShelfID
	index     int
	called    string         // the id of its rendition
	intention intended       // for the broadcast, if it begins one
	req       ingest.Request // without the token
	start     time.Time

	done  chan struct{}
	cause atomic.Pointer[fault.Error] // why it was dismissed

	last            atomic.Int64 // when media came last, nanoseconds since reg.epoch; at first, start
	packets, bytes  atomic.Uint64
	discontinuities atomic.Uint64
	repairs         atomic.Uint64
	offset          atomic.Int64 // stream time minus wire time, once joined
	joined          atomic.Bool

	// Of the door's goroutine alone.
	time     *pipeline.Normalizer
	bindings []binding
	rejoined bool          // it continues a timeline that others wrote before
	avWire   time.Duration // DTS of the newest picture or sound, in wire time
	early    []media.Packet
	slab     media.PacketSlab
	jumps    jumps

	// Guarded by reg.mu; rendition is also read by the door's goroutine, which
	// alone sets it.
	state        State
	end          time.Time
	endCause     *fault.Error
	broadcast    *broadcast
	rendition    *rendition
	offsetMethod string
	rate         rate
}

// binding ties a track as the door announced it to the track of the stream.
type binding struct {
	door, own *media.Track
	// newConfig and newTimeline: the track's next packet must be flagged.
	newConfig, newTimeline bool
}

// maxEarly bounds the data packets that are kept until picture or sound says
// what time it is.
const maxEarly = 16

// dataSlack is how far a data packet's timestamp may be from the picture's and
// sound's before it is taken for meaningless; encoders write 0 into onMetaData.
const dataSlack = time.Second

var _ ingest.Publication = (*session)(nil)

func newSession(r *Registry, at place, req *ingest.Request, now time.Time) *session {
	s := &session{
		reg: r, id: newID(), shelf: at.shelf, index: at.index, req: *req, start: now,
		done: make(chan struct{}), time: pipeline.NewNormalizer(pipeline.NormalizerOptions{}),
		state: Authenticated,
	}
	if s.req.Counters == nil {
		s.req.Counters = new(ingest.Counters)
	}
	if len(s.req.Encoder) > ingest.MaxEncoderName {
		s.req.Encoder = s.req.Encoder[:ingest.MaxEncoderName]
	}
	s.heard(now)
	return s
}

func (s *session) place() place { return place{s.shelf, s.index} }

// heard notes when media came. The difference is taken on the monotonic clock,
// so a step of the wall clock makes nobody silent.
func (s *session) heard(at time.Time) { s.last.Store(int64(at.Sub(s.reg.epoch))) }

func (s *session) lastMedia() time.Time { return s.reg.epoch.Add(time.Duration(s.last.Load())) }

// Done implements ingest.Publication.
func (s *session) Done() <-chan struct{} { return s.done }

// Cause implements ingest.Publication.
func (s *session) Cause() error {
	if c := s.cause.Load(); c != nil {
		return c
	}
	return nil
}

func (s *session) dismissal() error { return s.Cause() }

// dismiss tells the door to hang up. The first cause stays.
func (s *session) dismiss(cause error) {
	if s.cause.CompareAndSwap(nil, fault.From(cause)) {
		close(s.done)
	}
}

// Close implements ingest.Publication.
func (s *session) Close(cause error) {
	if d := s.dismissal(); d != nil {
		cause = d
	}
	s.reg.mu.Lock()
	s.reg.leave(s, cause, time.Now())
	s.reg.mu.Unlock()
	s.dismiss(fault.New(fault.Unpublished, "the publication is closed"))
	// It is shown for a while yet, and must not hold its last packets for that.
	s.slab, s.early, s.bindings = media.PacketSlab{}, nil, nil
}

// idleCause is why a silent session is dismissed.
func (s *session) idleCause(limit time.Duration) error {
	if s.packets.Load() == 0 {
		return fault.New(fault.NoMedia, "the connection was let in but sent no picture or sound for %s", limit)
	}
	return fault.New(fault.Idle, "no picture or sound came for %s", limit)
}

// finish writes down the end; reg.mu is held.
func (s *session) finish(cause error, now time.Time) {
	e := fault.New(fault.Unpublished, "the encoder ended the publication")
	if cause != nil {
		if found, ok := errors.AsType[*fault.Error](cause); ok {
			e = found
		} else {
			e = fault.New(fault.ConnectionLost, "the connection broke: %v", cause)
		}
	}
	trigger := EndedBroken
	switch e.Reason {
	case fault.Unpublished, fault.StoppedByOperator, fault.StreamDeleted, fault.ServerDraining:
		trigger = EndedWell
	}
	s.state, _ = s.state.Next(trigger) // every living state has both steps: TestLifecycle
	s.end, s.endCause, s.rate = now, e, rate{}
	s.reg.counters.ended(e.Reason)
	s.reg.opts.Journal.Record(Event{
		Type: SessionEnded, Time: now, Stream: s.shelf.Stream, Session: s.id, Reason: e.Reason, Message: e.Message,
	})
}

// rate is a bitrate over the last seconds, sampled by the registry's ticker.
type rate struct {
	at    time.Time
	bytes uint64
	bps   float64
}

// rateWindow is the time constant of the shown bitrate.
const rateWindow = 3 * time.Second

// sample updates the shown bitrate; reg.mu is held.
func (s *session) sample(now time.Time) {
	total := s.bytes.Load()
	if s.rate.at.IsZero() {
		s.rate = rate{at: now, bytes: total}
		return
	}
	dt := now.Sub(s.rate.at)
	if dt < time.Second {
		return
	}
	bps := float64(total-s.rate.bytes) * 8 / dt.Seconds()
	if s.rate.bps == 0 {
		s.rate.bps = bps
	} else {
		s.rate.bps += (bps - s.rate.bps) * min(1, dt.Seconds()/rateWindow.Seconds())
	}
	s.rate.at, s.rate.bytes = now, total
}
