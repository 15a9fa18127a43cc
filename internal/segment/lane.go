package segment

import (
	"time"

	"github.com/klive-media/klive/internal/media"
	"github.com/klive-media/klive/internal/segment/fmp4"
)

// lane is one track of a rendition on its way onto its row. It belongs to the
// goroutine that cuts the rendition.
//
// Times: a sample's tick is its decode time in the track's scale; its at is
// the stream time that cuts are compared with, decode time plus lead. lead is
// the composition offset of the picture's first key frame, so that cuts and
// starts are what a viewer sees.
type lane struct {
	k      *cutting
	id     RowID
	track  *media.Track // of the samples put last
	scale  uint32
	target int64 // PART-TARGET in ticks
	lead   time.Duration
	anchor bool // lead is set

	heard *media.Track  // sound: of the samples that came last
	clock clock         // sound: of these
	frame int64         // ticks the last frame lasted, about
	high  int64         // decode time after the newest sample that was put
	held  []sample      // sound that waits for the picture
	await time.Duration // sound: until when samples after a discontinuity are held; 0: not
	// absorb: a discontinuity of this lane up to here is the one that another
	// lane has reported already; 0: none is.
	absorb time.Duration

	row     *row // nil until the first part
	cur     cut  // that began the segment the lane is in
	cuts    []cut
	entered bool // cur counts

	// The segment.
	seg     Segment
	began   bool // the lane has a sample in it
	opened  bool // it has a part
	file    segmentFile
	frames  int
	samples int

	// The part.
	pending []fmp4.Sample
	buffers [][]byte // [0] is for the header
	base    int64    // decode time of the first sample
	last    int64    // of the newest
	bytes   int64
	key     bool
	parts   uint32 // made, for mfhd
}

// sample is a packet with the time it will have in the file.
type sample struct {
	packet *media.Packet
	scale  uint32 // of tick: the lane's, unless the configuration changed
	tick   int64
	at     time.Duration
	end    time.Duration // at plus its length, about
	broken bool          // a discontinuity stands before it
}

// cut is a place where one segment ends and the next begins, in all rows of a
// rendition.
type cut struct {
	number uint64
	at     time.Duration
	disc   uint64 // discontinuity sequence number of the segment that begins
	broken bool
}

func newLane(k *cutting, t *media.Track) *lane {
	l := &lane{k: k, id: RowID{k.d.id, t.Kind}, buffers: make([][]byte, 1, 16)}
	l.rescale(fmp4.Scale(t))
	return l
}

// rescale makes the lane count in another time scale.
func (l *lane) rescale(scale uint32) {
	if l.scale != 0 {
		l.high = media.ToTicks(media.FromTicks(l.high, l.scale), scale)
		l.frame = media.ToTicks(media.FromTicks(l.frame, l.scale), scale)
	}
	l.scale = scale
	l.retarget()
}

// retarget takes over PART-TARGET.
func (l *lane) retarget() { l.target = int64(l.k.target) * int64(l.scale) / int64(time.Second) }

// sample gives a packet its place in time.
func (l *lane) sample(p *media.Packet, broken bool) sample {
	s := sample{packet: p, broken: broken, scale: fmp4.Scale(p.Track)}
	s.tick = max(media.ToTicks(p.DTS, s.scale), 0)
	if l.id.Kind == media.Video {
		if !l.anchor || broken {
			l.anchor, l.lead = true, p.CompositionOffset()
		}
		s.tick = max(s.tick, l.high)
		l.place(&s)
		s.at = media.FromTicks(s.tick, s.scale) + l.lead
		s.end = s.at + media.FromTicks(l.frame, l.scale)
		return s
	}
	if l.heard != p.Track {
		l.listen(p)
	}
	if broken {
		l.clock.running = false
	}
	s.tick = l.clock.at(s.tick)
	s.at = media.FromTicks(s.tick, s.scale)
	s.end = s.at + media.FromTicks(l.clock.frame, s.scale)
	return s
}

// listen sets the clock for another track of sound.
func (l *lane) listen(p *media.Packet) {
	l.heard = p.Track
	scale := fmp4.Scale(p.Track)
	frame := soundFrame(p.Track)
	if frame == 0 {
		frame = p.Duration
	}
	if n := media.ToTicks(frame, scale); n != l.clock.frame {
		l.clock = clock{frame: n, band: int64(scale) * 3 / 2000}
	}
}

// place moves the decode time of a picture to the end of the part before it
// when that part would otherwise get longer than its target; it is presented
// when it always was, as its composition offset grows by as much.
func (l *lane) place(s *sample) {
	if len(l.pending) == 0 {
		return
	}
	if full := l.base + l.target; s.tick > full && s.tick-full <= l.target/2 {
		s.tick = full
	}
}

// put adds a sample; cuts that it passes are made first.
func (l *lane) put(s sample) {
	for len(l.cuts) > 0 && l.passes(&s) {
		l.pass(&s)
	}
	if s.scale != l.scale {
		if l.began {
			return // another scale without another segment: never made by see and hear
		}
		l.rescale(s.scale)
	}
	s.tick = max(s.tick, l.high) // it came later than it was waited for
	if !l.began {
		l.start(&s)
	}
	if len(l.pending) > 0 {
		l.continuePart(&s)
	}
	if len(l.pending) == 0 {
		l.base, l.key = s.tick, s.packet.Flags.Has(media.Key) || l.id.Kind == media.Audio
	}
	l.pend(&s)
}

// passes reports whether a sample belongs behind the next cut. Sound is cut at
// the frame that plays when the cut comes, not after it.
func (l *lane) passes(s *sample) bool {
	c := &l.cuts[0]
	if l.id.Kind == media.Audio {
		if s.broken && c.broken {
			return true
		}
		// Only the cut at a discontinuity is waited for: a usual one before it
		// stands where the picture has put it.
		return (l.await == 0 || !c.broken) && s.end > c.at
	}
	return s.at >= c.at
}

// pass ends the lane's segment at the next cut, before a sample, or without
// one when none came.
func (l *lane) pass(s *sample) {
	c := l.cuts[0]
	l.cuts = append(l.cuts[:0], l.cuts[1:]...)
	switch {
	case l.began:
		end := l.high
		if len(l.pending) > 0 {
			end = l.last + l.length()
			if s != nil {
				end = max(media.ToTicks(s.at-l.lead, l.scale), l.last+1)
			}
			end = min(end, l.base+l.target)
		}
		next := media.FromTicks(end, l.scale) + l.lead // what comes late comes into the next segment
		if s != nil && c.disc == l.cur.disc {
			next = s.at // before a discontinuity a segment lasts as long as its samples do
		}
		l.finish(end, next)
	case l.entered && l.row != nil:
		l.skip(&c)
	}
	l.cur, l.entered = c, true
}

// start begins a segment with its first sample.
func (l *lane) start(s *sample) {
	l.began, l.opened = true, false
	l.frames, l.samples = 0, 0
	if !l.k.store.sameInit(l, s.packet.Track) {
		l.newInit(s.packet.Track)
	}
	l.track = s.packet.Track
	if l.cur.broken && l.cur.number == l.k.last.number {
		// Sound is back before the picture: the segment is as long as its longest row.
		l.k.since = min(l.k.since, s.at)
	}
	l.seg = Segment{
		Number: l.cur.number, Discontinuity: l.cur.disc, Start: s.at,
		Independent: l.id.Kind == media.Audio || s.packet.Flags.Has(media.Key),
		Run:         l.row.initRun, Init: l.row.init,
	}
}

// continuePart says how long the newest sample lasts and ends the part before
// s when that is the better place.
func (l *lane) continuePart(s *sample) {
	elapsed, dur := s.tick-l.base, s.tick-l.last
	if elapsed > l.target { // a frame that outlasts the part, or a hole: it ends at the target
		l.emit(l.base+l.target, 0, false)
		return
	}
	ahead := dur
	if l.id.Kind == media.Audio && l.frame > 0 {
		ahead = l.frame
	}
	spare := ahead / 4
	if l.id.Kind == media.Audio {
		spare = 0
	}
	if elapsed*100 >= l.target*85 && (elapsed+ahead > l.target+spare || l.enough(ahead)) {
		l.emit(s.tick, 0, false)
		return
	}
	l.pending[len(l.pending)-1].Duration = uint32(dur) //nolint:gosec // within a part
}

// enough reports whether the part should end here, short of its target, so
// that the parts up to the segment's end, as far as that can be foreseen, are
// of about one length and no splinter is left for the last. (Players that are
// told of a splinter and of the segment's end right after the part before may
// miss one of them; hls.js takes a segment for loaded when 200 ms are missing.)
func (l *lane) enough(frame int64) bool {
	if c := l.k.cadence; l.id.Kind == media.Video && c.regular && c.frame > 0 {
		// Times in whole milliseconds would add up to a frame too many or too few.
		frame = int64(float64(l.scale) / nameRate(float64(time.Second)/float64(c.frame), guess))
	}
	n := (l.target + frame/8) / frame
	end := media.ToTicks(l.k.since+l.k.length-l.lead, l.scale)
	left := (end - l.base + frame/2) / frame
	if n < 2 || left <= n {
		return false
	}
	parts := (left + n - 1) / n
	size := (left + parts - 1) / parts
	return size < n && int64(len(l.pending)) >= size
}

// pend appends the sample to the part.
func (l *lane) pend(s *sample) {
	p := s.packet
	if n := len(l.pending); n > 0 || l.samples > 0 {
		if d := s.tick - l.last; d > 0 {
			l.frame = min(d, l.target)
		}
	}
	if l.id.Kind == media.Audio && l.clock.frame > 0 {
		l.frame = l.clock.frame
	}
	x := fmp4.Sample{Size: uint32(len(p.Payload)), Flags: fmp4.KeyFlags} //nolint:gosec // a packet
	if l.id.Kind == media.Video {
		x.Offset = int32(media.ToTicks(p.PTS, l.scale) - s.tick) //nolint:gosec // seconds at most
		switch {
		case p.Flags.Has(media.Key):
		case p.Flags.Has(media.Droppable):
			x.Flags = fmp4.DisposableFlags
		default:
			x.Flags = fmp4.DeltaFlags
		}
	}
	l.pending = append(l.pending, x)
	l.buffers = append(l.buffers, p.Payload)
	l.bytes += int64(len(p.Payload))
	l.last, l.high = s.tick, s.tick+1
	l.samples++
}

// length is how long the newest sample lasts when nothing comes after it.
func (l *lane) length() int64 {
	if l.frame > 0 {
		return l.frame
	}
	return l.target
}

// finish ends the segment: its last part at end, in ticks; the next one begins
// at the stream time next.
func (l *lane) finish(end int64, next time.Duration) {
	stop := media.FromTicks(end, l.scale) + l.lead
	if len(l.pending) == 0 {
		stop = min(stop, l.seg.Start+l.covered())
	}
	d := next - l.seg.Start
	if d > l.k.limit || next-stop > time.Second || d <= 0 { // a gap follows
		d = stop - l.seg.Start
	}
	d = min(max(d, time.Millisecond), l.k.limit)
	if len(l.pending) > 0 {
		l.emit(end, d, true)
	} else {
		l.close(d)
	}
	l.began = false
}

// expire ends the part when its time is over.
func (l *lane) expire(now time.Duration) {
	full := l.base + l.target
	if len(l.pending) > 0 && now > media.FromTicks(full, l.scale)+l.lead {
		l.emit(full, 0, false)
	}
}
