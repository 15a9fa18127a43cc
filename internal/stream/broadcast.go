package stream

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/klive-media/klive/internal/egress"
	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/run"
	"github.com/klive-media/klive/internal/segment"
)

// broadcast is one event of a stream at one server index, across reconnects.
type broadcast struct {
	id    string
	shelf segment.ShelfID
	start time.Time // wall clock of stream time 0
	reg   *Registry
	// intended is what the grant that began it asks for; continued says that a
	// restart of the server lies between its start and now.
	intended  intended
	continued bool

	ready  chan struct{} // closed when cutter or err is set
	gone   chan struct{} // closed when the broadcast has ended and its shelf is free
	cutter segment.Cutter
	err    error
	group  *run.Group              // cuts the renditions
	leave  context.CancelCauseFunc // ends its outputs

	// Guarded by Registry.mu.
	state      State
	leaving    bool // it takes no session any more
	end        time.Time
	deadline   time.Time // until when a publisher may come back; zero while one is there
	restored   time.Duration
	playableAt time.Time     // when it could be played first in this run of the server
	renditions []*rendition  // by ingest index
	changed    chan struct{} // closed when renditions changes; nil: nobody asked
	// recording is what is to be recorded now; recordChanged is closed when it
	// changes.
	recording     egress.RecordingMode
	recordChanged chan struct{}
}

func (r *Registry) newBroadcast(id string, shelf segment.ShelfID, start time.Time, in intended) *broadcast {
	return &broadcast{
		id: id, shelf: shelf, start: start, reg: r, intended: in, state: Broadcasting,
		recording: in.Policy.Recording, recordChanged: make(chan struct{}),
		ready: make(chan struct{}), gone: make(chan struct{}), leave: func(error) {},
	}
}

// goOnAir puts the session's rendition on air: it finds or begins the
// broadcast and joins it.
func (r *Registry) goOnAir(s *session) error {
	for {
		r.mu.Lock()
		b := r.broadcasts[s.shelf]
		began := b == nil
		if began && r.closed {
			cause := r.draining
			r.mu.Unlock()
			return cause
		}
		if began {
			b = r.newBroadcast(newID(), s.shelf, time.Now(), s.intention)
			r.broadcasts[s.shelf] = b
		}
		leaving := b.leaving
		r.mu.Unlock()
		switch {
		case leaving: // its last pieces are being closed: a moment
			select {
			case <-b.gone:
				continue
			case <-s.done:
				return s.Cause()
			}
		case began:
			r.begin(b)
		}
		<-b.ready
		if b.err != nil {
			return b.err
		}
		if joined, err := r.attach(b, s, began); joined || err != nil {
			return err
		}
	}
}

// begin opens the shelf and sets b.ready.
func (r *Registry) begin(b *broadcast) {
	defer close(b.ready)
	g := r.group.Load()
	if g == nil {
		b.err = fault.New(fault.ServerDraining, "the server is starting; try again")
	} else {
		b.group = run.New(g.Context())
		b.cutter, b.err = r.opts.Store.Begin(b.shelf, segment.Broadcast{
			ID: b.id, Start: b.start, SegmentDuration: b.intended.Policy.SegmentDuration,
			Window: b.intended.window(), Note: b.intended.note(),
		}, func(e segment.Event) { r.observe(b, e) })
	}
	if b.err != nil {
		b.err = fault.New(fault.StoreUnavailable, "the server cannot keep this broadcast; tell its operator").Because(fmt.Errorf("begin broadcast: %w", b.err))
		r.mu.Lock()
		b.leaving = true
		delete(r.broadcasts, b.shelf)
		r.mu.Unlock()
		close(b.gone)
		return
	}
	r.output(g, b)
}

// attach makes the session feed its rendition of b; joined is false when b
// began to end meanwhile.
func (r *Registry) attach(b *broadcast, s *session, began bool) (joined bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if b.leaving {
		return false, nil
	}
	if !s.end.IsZero() { // dismissed meanwhile
		b.await(r, time.Now())
		return false, s.endCause
	}
	rd := b.rendition(s.index)
	if rd == nil {
		if err := b.free(s.called, s.index); err != nil {
			b.await(r, time.Now())
			return false, err
		}
		rd = newRendition(s.called, s.index, r.opts.Limits.Log, b.restored)
		if err := r.cut(b, rd); err != nil {
			b.await(r, time.Now())
			return false, err
		}
		b.renditions = append(b.renditions, rd)
		slices.SortFunc(b.renditions, func(a, c *rendition) int { return a.index - c.index })
		b.renditionsChanged()
	}
	waited := !b.deadline.IsZero()
	b.deadline = time.Time{}
	rd.session, s.broadcast, s.rendition = s, b, rd
	s.state, _ = s.state.Next(Announced)
	if rd.playable {
		s.state, _ = s.state.Next(CanPlay)
	}
	e := Event{Type: BroadcastResumed, Stream: b.shelf.Stream, Session: s.id, Message: "a publisher came back within the reconnect window"}
	if began {
		r.counters.Broadcasts.Add(1)
		e.Type, e.Message = BroadcastStarted, "the stream is on air"
	}
	if began || waited {
		e.Facts = b.facts()
		if began {
			e.Facts["rendition"] = rd.id
		}
		r.opts.Journal.Record(e)
	}
	r.touch(b.shelf.Stream)
	return true, nil
}

func (b *broadcast) facts() map[string]string {
	facts := map[string]string{"broadcast": b.id, "server_index": strconv.Itoa(b.shelf.ServerIndex)}
	if b.intended.Partner != 0 {
		facts["partner"] = strconv.Itoa(b.intended.Partner)
	}
	return facts
}

func (b *broadcast) rendition(index int) *rendition {
	for _, rd := range b.renditions {
		if rd.index == index {
			return rd
		}
	}
	return nil
}

// cut starts the rendition's segmenter. If it fails, its publisher is
// dismissed: better a refusal that is seen than a stream that nobody can watch.
func (r *Registry) cut(b *broadcast, rd *rendition) error {
	name := "cut " + b.shelf.Stream + "/" + rd.id
	return b.group.Detach(name, func(ctx context.Context) error {
		return b.cutter.Run(ctx, renditionOf(rd))
	}, func(err error) {
		if err == nil {
			return
		}
		r.log.Error("the segmenter of a rendition failed", "stream", b.shelf.Stream, "rendition", rd.id, "error", err)
		r.mu.Lock()
		defer r.mu.Unlock()
		if rd.session != nil {
			cause := fault.New(fault.InternalError, "the server cannot cut this stream; please reconnect").Because(err)
			if fault.ReasonOf(err) == fault.LimitExceeded { // the publisher's own doing
				cause = fault.From(err)
			}
			rd.session.dismiss(cause)
		}
		rd.closeLog() // for its other readers
		b.renditionsChanged()
		b.renditions = slices.DeleteFunc(b.renditions, func(o *rendition) bool { return o == rd })
		b.restored = max(b.restored, rd.written()) // time goes on from here
		r.touch(b.shelf.Stream)
	})
}

// left notes that a session of the broadcast ended; Registry.mu is held.
func (b *broadcast) left(s *session, now time.Time) {
	rd := s.rendition
	if rd == nil || rd.session != s {
		return
	}
	rd.session = nil
	b.await(s.reg, now)
}

// await sets the reconnect deadline when no publisher is left; Registry.mu is
// held.
func (b *broadcast) await(r *Registry, now time.Time) {
	for _, rd := range b.renditions {
		if rd.session != nil {
			return
		}
	}
	if !b.state.Live() || b.leaving || !b.deadline.IsZero() {
		return
	}
	b.deadline = now.Add(r.opts.Limits.ReconnectWindow)
	r.opts.Journal.Record(Event{
		Type: BroadcastWaiting, Time: now, Stream: b.shelf.Stream,
		Message: "no publisher is left; the stream waits for one to come back until " + b.deadline.UTC().Format(time.RFC3339),
		Facts:   b.facts(),
	})
}

// closeLogs lets the segmenters come to their end; Registry.mu is held.
func (b *broadcast) closeLogs() {
	for _, rd := range b.renditions {
		rd.closeLog()
	}
}

// end ends a broadcast that was marked as leaving: it closes the logs, waits
// for the segmenters and writes the end onto the shelf.
func (r *Registry) end(b *broadcast, cause *fault.Error) {
	<-b.ready
	if b.err != nil { // it never began
		return
	}
	r.mu.Lock()
	b.closeLogs()
	r.mu.Unlock()
	err := b.group.Wait()
	b.cutter.End()
	b.leave(egress.ErrEnded)
	if err != nil {
		r.log.Error("a broadcast ended with an error", "stream", b.shelf.Stream, "error", err)
	}
	r.mu.Lock()
	b.state, _ = b.state.Next(EndedWell)
	b.end, b.deadline = time.Now(), time.Time{}
	for _, rd := range b.renditions {
		rd.release()
		rd.playable = false // what is listed for a while yet is the past
	}
	delete(r.broadcasts, b.shelf)
	r.past[b.shelf] = b
	r.touch(b.shelf.Stream)
	r.mu.Unlock()
	close(b.gone)
	r.opts.Journal.Record(Event{
		Type: BroadcastEnded, Stream: b.shelf.Stream, Reason: cause.Reason, Message: cause.Message, Facts: b.facts(),
	})
}

// observe hears from the segmenter.
func (r *Registry) observe(b *broadcast, e segment.Event) {
	ev := Event{Stream: b.shelf.Stream, Facts: b.facts()}
	ev.Facts["rendition"], ev.Facts["at"] = e.Rendition, e.At.String()
	switch e.Kind {
	case segment.Playable, segment.Unplayable:
		if !r.playable(b, e.Rendition, e.Kind == segment.Playable) {
			return
		}
		ev.Type, ev.Message = BroadcastPlayable, "the stream can be watched"
		if e.Kind == segment.Unplayable {
			ev.Type, ev.Message = BroadcastDark, "nothing is left to watch until media comes again"
		}
	case segment.ForcedCut:
		r.counters.ForcedCuts.Add(1)
		ev.Type, ev.Message = CutForced, "no key frame came within the segment duration; set the encoder's key-frame interval to 2 s"
	case segment.Gap:
		r.counters.Gaps.Add(1)
		ev.Type, ev.Message = MediaGap, "media is missing"
		ev.Facts["duration"] = e.Duration.String()
	case segment.WriteFailed:
		ev.Type, ev.Message = DiskRefused, "a segment could not be written to disk; live goes on from memory"
		if e.Err != nil {
			ev.Facts["error"] = e.Err.Error()
		}
	}
	r.opts.Journal.Record(ev)
}

// playable moves rendition, session and broadcast; it reports whether the
// broadcast's state changed.
func (r *Registry) playable(b *broadcast, id string, can bool) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	trigger := CannotPlay
	if can {
		trigger = CanPlay
	}
	some := false
	for _, rd := range b.renditions {
		if rd.id == id {
			rd.playable = can
			if rd.session != nil {
				rd.session.state = step(rd.session.state, trigger)
			}
		}
		some = some || rd.playable
	}
	was := b.state
	if some == can {
		b.state = step(b.state, trigger)
	}
	if b.state == Playable && b.playableAt.IsZero() {
		b.playableAt = time.Now()
	}
	r.touch(b.shelf.Stream)
	return b.state != was
}

// step is Next for triggers that may come when they change nothing, such as a
// second rendition that becomes playable.
func step(s State, t Trigger) State {
	n, err := s.Next(t)
	if err != nil {
		return s
	}
	return n
}
