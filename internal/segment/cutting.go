package segment

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"reflect"
	"slices"
	"time"

	"github.com/klive-media/klive/internal/media"
	"github.com/klive-media/klive/internal/pipeline"
)

// cutter implements Cutter.
type cutter struct {
	shelf     *shelf
	broadcast string // id
}

var _ Cutter = (*cutter)(nil)

// Note implements Cutter.
func (c *cutter) Note(note []byte) error {
	if len(note) > MaxNote {
		return fmt.Errorf("note on shelf: %d bytes are more than %d", len(note), MaxNote)
	}
	h := c.shelf
	h.mu.Lock()
	if !h.onAir || h.broadcast.ID != c.broadcast {
		h.mu.Unlock()
		return fmt.Errorf("note on shelf %s/%d: the broadcast is over", h.id.Stream, h.id.ServerIndex)
	}
	h.broadcast.Note = slices.Clone(note)
	rec := h.record()
	h.mu.Unlock()
	for {
		if err := writeRecord(h.dir, rec); err != nil {
			return fmt.Errorf("note on shelf: %w", err)
		}
		// Somebody else may have written meanwhile what this one replaced.
		h.mu.Lock()
		now := h.record()
		h.mu.Unlock()
		if reflect.DeepEqual(now, rec) {
			return nil
		}
		rec = now
	}
}

// End implements Cutter.
func (c *cutter) End() { c.shelf.end(false) }

// errPoked wakes a cutting that waits for packets.
var errPoked = errors.New("segment: look up from the log")

// Run implements Cutter.
func (c *cutter) Run(ctx context.Context, r pipeline.Rendition) error {
	k, err := newCutting(c.shelf, r)
	if err != nil {
		return err
	}
	defer k.leave()
	cursor := r.Source.Subscribe(pipeline.Seq(0))
	for {
		wait, poke := context.WithCancelCause(ctx)
		k.arm(func() { poke(errPoked) })
		err := k.read(wait, cursor)
		poke(nil)
		switch {
		case ctx.Err() != nil || errors.Is(err, io.EOF):
			return nil
		case errors.Is(err, errPoked):
			k.rest()
		default:
			return fmt.Errorf("read rendition %s: %w", r.ID, err)
		}
	}
}

// sameBreak is how far apart the tracks, and the renditions, may see one and
// the same break of the timeline.
const sameBreak = 1500 * time.Millisecond

// cutting cuts one rendition; it belongs to one goroutine.
type cutting struct {
	shelf  *shelf
	store  *DiskStore
	d      *rendition // guarded by shelf.mu
	source pipeline.Source
	wait   time.Duration // how long one track is waited for
	wish   time.Duration // the segment duration
	target time.Duration // PART-TARGET
	limit  time.Duration // what no segment passes

	expectVideo, expectAudio bool
	video, audio             *lane
	cadence                  cadence
	rule                     rule

	started  bool
	early    []*media.Packet
	waiting  int64         // bytes in early and in held, with packetCost
	last     cut           // that began the newest segment
	since    time.Duration // from when its length counts
	length   time.Duration // of the segment before, or what the next will last
	first    bool          // no segment of this broadcast was begun yet
	frontier time.Duration
	heard    time.Duration // the newest sound
	blind    bool          // the picture does not come; sound goes on alone
	steady   int           // pictures that came in time since then
	seen     time.Duration // heard when the newest picture came
	needKey  bool
	lost     bool // packets were lost before the next picture, and this was not said yet
	deaf     bool // the same for sound
}

func newCutting(h *shelf, r pipeline.Rendition) (*cutting, error) {
	k := &cutting{shelf: h, store: h.store, source: r.Source, wait: h.store.opts.TrackWait, first: true, needKey: true}
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.onAir {
		return nil, fmt.Errorf("cut rendition %s: the broadcast is not on air", r.ID)
	}
	d := h.renditions[r.ID]
	if d == nil {
		d = &rendition{id: r.ID}
		h.renditions[r.ID] = d
	}
	if d.running {
		return nil, fmt.Errorf("cut rendition %s: it is being cut already", r.ID)
	}
	d.running, d.idle, d.active, d.poke = true, false, time.Now(), func() {}
	k.d, k.first = d, !d.begun
	return k, nil
}

// arm gives the shelf a way to wake the cutting.
func (k *cutting) arm(poke func()) {
	k.shelf.mu.Lock()
	k.d.poke = poke
	k.shelf.mu.Unlock()
}

// read feeds packets until the log or ctx ends.
func (k *cutting) read(ctx context.Context, c *pipeline.Cursor[media.Packet]) error {
	for {
		p, err := c.NextAt(ctx, k.due())
		switch {
		case err == nil:
			k.feed(p)
			if err := k.bounded(); err != nil {
				return err
			}
		case errors.Is(err, pipeline.ErrLapped):
			// Before the first part there is nothing that could be broken.
			k.lost = k.lost || k.started || !k.first
			k.needKey, k.deaf = true, k.lost
		default:
			if e := k.catchUp(ctx, c); e != nil {
				return e
			}
			return err //nolint:wrapcheck // the log's own words, told apart by the caller
		}
	}
}

// catchUp feeds what came while the cutting dozed and then was told to end.
func (k *cutting) catchUp(ctx context.Context, c *pipeline.Cursor[media.Packet]) error {
	if ctx.Err() == nil {
		return nil // the log was read to its end
	}
	for {
		p, err := c.Next(ctx) // does not wait: ctx has ended
		if err != nil {
			return nil
		}
		k.feed(p)
		if err := k.bounded(); err != nil {
			return err
		}
	}
}

// due is the time before which no packet can complete a part, so that the
// cutting need not wake for each one.
func (k *cutting) due() time.Duration {
	if !k.started || k.blind {
		return 0
	}
	at := time.Duration(math.MaxInt64)
	for _, l := range k.lanes() {
		if len(l.pending) == 0 {
			return 0
		}
		frame := l.frame
		if l.id.Kind == media.Audio {
			frame = l.clock.frame
		}
		at = min(at, media.FromTicks(l.base+l.target-frame/2, l.scale))
	}
	return at
}

// rest closes the open segments when no media comes.
func (k *cutting) rest() {
	k.stop()
	k.shelf.mu.Lock()
	k.d.idle = true
	k.shelf.mu.Unlock()
}

// leave is the end of cutting.
func (k *cutting) leave() {
	if !k.started && len(k.early) > 0 {
		k.begin()
	}
	k.stop()
	k.shelf.mu.Lock()
	k.d.running, k.d.poke = false, func() {}
	k.shelf.mu.Unlock()
}

// stop puts what is held onto the rows and closes their segments.
func (k *cutting) stop() {
	if !k.started {
		return
	}
	if k.audio != nil {
		for _, s := range k.audio.held {
			k.audio.await = 0
			k.audio.put(s)
			k.waiting -= cost(s.packet)
		}
		k.audio.held = nil
	}
	for _, l := range k.lanes() {
		for len(l.cuts) > 0 {
			l.pass(nil)
		}
		if l.began {
			end := l.high
			if len(l.pending) > 0 {
				end = min(l.last+l.length(), l.base+l.target)
			}
			l.finish(end, media.FromTicks(end, l.scale)+l.lead)
		}
		l.entered = false
	}
	k.started, k.blind, k.early = false, false, nil
}

func (k *cutting) lanes() []*lane {
	out := make([]*lane, 0, 2)
	if k.video != nil {
		out = append(out, k.video)
	}
	if k.audio != nil {
		out = append(out, k.audio)
	}
	return out
}

// touch notes that media comes; shelf.mu is held.
func (k *cutting) touch() {
	k.d.active, k.d.idle = time.Now(), false
	k.d.frontier = max(k.frontier, k.heard)
}

func (k *cutting) wall(at time.Duration) time.Time {
	k.shelf.mu.Lock()
	defer k.shelf.mu.Unlock()
	return k.shelf.wall(at)
}

// feed takes the next packet of the log.
func (k *cutting) feed(p *media.Packet) {
	if p.Track.Kind != media.Video && p.Track.Kind != media.Audio || !k.ours(p) {
		return
	}
	if !k.started {
		k.early = append(k.early, p)
		k.waiting += cost(p)
		if k.canBegin(p) {
			k.begin()
		}
		return
	}
	k.take(p)
}

// take puts a packet onto its lane.
func (k *cutting) take(p *media.Packet) {
	if p.Track.Kind == media.Video {
		k.see(p)
	} else {
		k.hear(p)
	}
	k.release()
	k.settle()
}

// ours: of several tracks of a kind the first is cut.
func (k *cutting) ours(p *media.Packet) bool {
	l := k.audio
	if p.Track.Kind == media.Video {
		l = k.video
	}
	return l == nil || l.track == nil || l.track.ID == p.Track.ID
}

// see takes a picture. The picture leads: it decides where segments end.
func (k *cutting) see(p *media.Packet) {
	key := p.Flags.Has(media.Key)
	if k.needKey && !key {
		return
	}
	if k.video == nil {
		k.video = k.join(p.Track)
	}
	l := k.video
	broken := p.Flags.Has(media.Discontinuity) || k.lost
	changed := l.began && !l.track.SameConfig(p.Track)
	s := l.sample(p, broken || changed)
	if k.needKey = false; broken && l.absorb > 0 && s.at <= l.absorb {
		broken = false
	}
	if broken {
		l.absorb = 0
	}
	k.look(s.at)
	if broken || changed {
		k.rule.reset()
	}
	toCut := key && k.rule.key(s.at, k.since)
	switch {
	case broken || changed:
		k.breakAt(s.at, l, broken)
	case !l.began:
	case toCut:
		k.cut(s.at, false)
	case !key && k.rule.force(s.at, k.since, media.FromTicks(l.frame, l.scale)):
		k.cut(s.at, false)
		k.forced(s.at)
	}
	l.put(s)
	k.frontier, k.seen = max(k.frontier, s.at), k.heard
}

// look notes when the picture is back, and when media was missing.
func (k *cutting) look(at time.Duration) {
	const steady = 8
	if k.blind {
		if k.steady++; at-k.frontier > k.wait/2 {
			k.steady = 0
		}
		k.blind = k.steady < steady
	}
	if was := max(k.frontier, k.heard); !k.lost && at-was > time.Second {
		k.shelf.mu.Lock()
		k.shelf.tell(Event{Kind: Gap, Rendition: k.d.id, At: was, Duration: at - was})
		k.shelf.unlock()
	}
}

// forced counts a segment that begins without a key frame.
func (k *cutting) forced(at time.Duration) {
	k.store.counters.forced.Add(1)
	k.shelf.mu.Lock()
	k.shelf.tell(Event{Kind: ForcedCut, Rendition: k.d.id, At: at})
	k.shelf.unlock()
}

// hear takes sound. It is held until the picture's time has come as far, so
// that it is cut where the picture is.
func (k *cutting) hear(p *media.Packet) {
	if k.audio == nil {
		k.audio = k.join(p.Track)
	}
	l := k.audio
	broken := p.Flags.Has(media.Discontinuity) || k.deaf
	changed := l.began && !l.track.SameConfig(p.Track)
	k.deaf = false
	if n := len(l.held); n > 0 {
		changed = !l.held[n-1].packet.Track.SameConfig(p.Track)
	}
	s := l.sample(p, broken || changed)
	k.heard = max(k.heard, s.at)
	l.held = append(l.held, s)
	k.waiting += cost(p)
}

// join makes a lane for a track that comes now. On a row that is there already,
// from an earlier broadcast or run, numbers go on without holes: gaps stand for
// the segments that the other track made without it.
func (k *cutting) join(t *media.Track) *lane {
	l := newLane(k, t)
	l.cur, l.entered = k.last, true
	h := k.shelf
	h.mu.Lock()
	if r := (*h.rows.Load())[l.id]; r != nil && r.numbered {
		l.row = r // so that what it misses from here on becomes gaps too
		if r.last+1 < k.last.number {
			r.fill(k.last.number-r.last-1, k.last.at, h.limit())
			r.commit()
		}
	}
	h.mu.Unlock()
	if k.last.broken {
		l.absorb = k.last.at + sameBreak
	}
	return l
}

// cut begins the next segment at a stream time, in all rows.
func (k *cutting) cut(at time.Duration, broken bool) {
	h := k.shelf
	h.mu.Lock()
	c := cut{number: k.last.number + 1, at: at, broken: broken}
	if broken {
		c.disc = h.mark(at, k.last.disc)
	} else {
		c.disc = max(k.last.disc, h.discontinuity(at))
	}
	h.advance(k.d, c.number, at)
	h.unlock()
	k.length = at - k.since
	k.last, k.since = c, at
	for _, l := range k.lanes() {
		l.cuts = append(l.cuts, c)
	}
}

// breakAt cuts for a discontinuity or another configuration that by reports.
// Where the timeline broke, the other track breaks too, about now.
func (k *cutting) breakAt(at time.Duration, by *lane, timeline bool) {
	if k.lost {
		k.shelf.mu.Lock()
		was := k.d.frontier
		k.shelf.tell(Event{Kind: Gap, Rendition: k.d.id, At: was, Duration: max(at-was, 0)})
		k.shelf.unlock()
	}
	k.cut(at, true)
	for _, l := range k.lanes() {
		if l == by || !timeline {
			continue
		}
		l.absorb = at + sameBreak
		if l.id.Kind == media.Audio && !k.lost {
			l.await = at + k.wait
		}
	}
	k.lost = false
}
