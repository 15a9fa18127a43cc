package segment

import (
	"slices"
	"time"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/media"
)

// This file is how the tracks of a rendition wait for each other: before the
// first segment, while one leads, and when one stays away.

// maxEarly bounds the packets that are held before the first segment.
const maxEarly = 4096

// packetCost is what a packet takes beside its payload, about.
const packetCost = 256

func cost(p *media.Packet) int64 { return int64(len(p.Payload)) + packetCost }

// bounded is the error of a publisher who makes us hold too much, by times
// that stand still or by bytes without end.
func (k *cutting) bounded() error {
	held := k.waiting
	for _, l := range [...]*lane{k.video, k.audio} {
		if l != nil {
			held += l.bytes + int64(len(l.pending))*packetCost
		}
	}
	most := k.store.opts.HeldBytes
	if held <= most {
		return nil
	}
	return fault.New(fault.LimitExceeded,
		"more than %d bytes came within the time of one part; check the encoder's timestamps and bit rate", most)
}

// canBegin reports whether enough is known to begin the first segment, after
// p was added to early: there is a key frame, unless the picture is late, and
// the targets are fixed or can be.
func (k *cutting) canBegin(p *media.Packet) bool {
	k.expect()
	if len(k.early) >= maxEarly || k.waiting > k.store.opts.HeldBytes/2 {
		return true
	}
	span := p.DTS - k.early[0].DTS
	key := k.firstPicture()
	if k.expectVideo && key < 0 {
		return span >= k.wait/2
	}
	k.shelf.mu.Lock()
	fixed := k.shelf.targets.Segment > 0
	k.shelf.mu.Unlock()
	if fixed || !k.expectVideo {
		return true
	}
	part := k.store.opts.PartDuration
	times := k.pictureTimes(key)
	if n := len(times); n > 1 && times[n-1]-times[0]+measure(times).frame > part+rounding {
		return true
	}
	return p.DTS-times[0] >= 2*part+k.wait/10
}

// expect learns which tracks there are.
func (k *cutting) expect() {
	k.expectVideo, k.expectAudio = false, false
	for _, t := range k.source.Tracks() {
		k.expectVideo = k.expectVideo || t.Kind == media.Video
		k.expectAudio = k.expectAudio || t.Kind == media.Audio
	}
	for _, p := range k.early {
		k.expectVideo = k.expectVideo || p.Track.Kind == media.Video
		k.expectAudio = k.expectAudio || p.Track.Kind == media.Audio
	}
}

// firstPicture is the index in early of the picture to begin with: the first
// key frame, or any when only time has passed since the last segment. -1: it
// did not come yet.
func (k *cutting) firstPicture() int {
	for i, p := range k.early {
		if p.Track.Kind == media.Video && (!k.needKey || p.Flags.Has(media.Key)) {
			return i
		}
	}
	return -1
}

// pictureTimes are the decode times of the pictures in early from i on.
func (k *cutting) pictureTimes(i int) []time.Duration {
	var out []time.Duration
	for _, p := range k.early[i:] {
		if p.Track.Kind == media.Video {
			out = append(out, p.DTS)
		}
	}
	return out
}

// begin fixes the targets, finds the rendition's place among the others and
// puts what was held onto the lanes.
func (k *cutting) begin() {
	k.expect()
	early := k.early
	k.early = nil
	for _, p := range early {
		k.waiting -= cost(p)
	}
	start := early[0].PTS
	picture := -1
	for i, p := range early {
		if p.Track.Kind == media.Video && (!k.needKey || p.Flags.Has(media.Key)) {
			picture, start = i, p.PTS
			break
		}
	}
	if picture < 0 {
		for _, p := range early {
			if p.Track.Kind == media.Audio {
				start = p.PTS
				break
			}
		}
	}
	broken := k.lost
	if picture < 0 && !slices.ContainsFunc(early, func(p *media.Packet) bool { return p.Track.Kind == media.Audio }) {
		return // pictures that cannot be decoded, and nothing else
	}
	for i, p := range early {
		broken = broken || p.Flags.Has(media.Discontinuity) || i >= max(picture, 0) && k.changed(p)
	}
	k.fixTargets(early, picture)
	k.enter(start, broken)
	k.started, k.blind = true, picture < 0 && k.expectVideo
	for i, p := range early {
		switch {
		case p.Track.Kind == media.Video && i < picture:
		case p.Track.Kind == media.Audio && p.PTS+soundFrame(p.Track) <= start:
		default:
			k.take(p)
		}
	}
}

// changed reports whether the packet's configuration is another than that of
// the lane before.
func (k *cutting) changed(p *media.Packet) bool {
	l := k.audio
	if p.Track.Kind == media.Video {
		l = k.video
	}
	return l != nil && l.track != nil && !l.track.SameConfig(p.Track)
}

// fixTargets chooses the shelf's targets, unless they are fixed.
func (k *cutting) fixTargets(early []*media.Packet, picture int) {
	var sound *media.Track
	for _, p := range early {
		if p.Track.Kind == media.Audio {
			sound = p.Track
			break
		}
	}
	if sound == nil {
		for _, t := range k.source.Tracks() {
			if t.Kind == media.Audio {
				sound = t
			}
		}
	}
	if picture >= 0 {
		var times []time.Duration
		var hint float64
		for _, p := range early[picture:] {
			if p.Track.Kind == media.Video {
				times = append(times, p.DTS)
				hint = p.Track.Video.FrameRate
			}
		}
		k.cadence = measure(times)
		if k.cadence.frame == 0 && hint > 0 {
			k.cadence = cadence{frame: time.Duration(float64(time.Second) / hint), regular: true}
		}
	}
	h := k.shelf
	h.mu.Lock()
	k.wish = h.wish()
	fresh := h.targets.Segment == 0
	if fresh {
		h.targets.Segment = segmentTarget(k.wish)
		h.targets.Part = min(partTarget(k.store.opts.PartDuration, k.wish, k.cadence, soundFrame(sound)), h.targets.Segment/2)
	}
	k.wish = min(k.wish, h.targets.Segment)
	k.target, k.limit = h.targets.Part, h.limit()
	rec := h.record()
	h.mu.Unlock()
	k.rule.wish, k.rule.limit = k.wish, k.limit
	for _, l := range k.lanes() {
		l.retarget()
	}
	if fresh {
		if err := writeRecord(h.dir, rec); err != nil {
			k.store.failed(h, Event{Rendition: k.d.id, At: early[0].DTS, Err: err})
		}
	}
}

// enter begins the first segment, or the first after silence.
func (k *cutting) enter(at time.Duration, broken bool) {
	h := k.shelf
	h.mu.Lock()
	number, since := h.enter(k.d, at)
	c := cut{number: number, at: at, broken: broken, disc: h.discontinuity(at)}
	if before := k.d.disc(); broken && !k.first {
		c.disc = h.mark(at, before)
	} else if !k.first {
		c.disc = max(c.disc, before)
	}
	if gap := at - k.d.frontier; !k.first && gap > time.Second {
		h.tell(Event{Kind: Gap, Rendition: k.d.id, At: k.d.frontier, Duration: gap})
	}
	h.advance(k.d, number, at)
	k.touch()
	h.unlock()
	k.last, k.since, k.length = c, since, k.wish
	k.rule.reset()
	k.first, k.lost, k.deaf, k.blind = false, false, false, false
	k.frontier = max(k.frontier, at)
	k.seen = max(k.seen, k.heard)
	for _, l := range k.lanes() {
		l.cur, l.entered = c, true
		l.cuts, l.await, l.absorb = nil, 0, at+sameBreak
		l.anchor = false
		l.clock.running = false
	}
}

// release puts the sound on its lane that need not wait for the picture.
func (k *cutting) release() {
	l := k.audio
	if l == nil {
		return
	}
	alone := k.video == nil && !k.expectVideo
	n := 0
	for n < len(l.held) && k.free(&l.held[n], l.held[n+1:], alone) {
		s := l.held[n]
		n++
		k.waiting -= cost(s.packet)
		if alone || k.blind {
			k.lead(&s)
		}
		l.put(s)
	}
	if n > 0 {
		rest := copy(l.held, l.held[n:])
		clear(l.held[rest:])
		l.held = l.held[:rest]
	}
}

// free reports whether a sample of sound can be put; behind are those after
// it.
func (k *cutting) free(s *sample, behind []sample, alone bool) bool {
	l := k.audio
	waited := k.heard - s.at
	if s.broken && !k.answered(s) {
		// The picture breaks about here too, and says where.
		if !alone && !k.blind && waited < k.wait && k.frontier < s.at+k.wait/2 {
			return false
		}
		l.await = 0
		k.breakAt(max(s.at, k.last.at), l, k.lost || s.packet.Flags.Has(media.Discontinuity))
		return true
	}
	if alone || k.blind {
		l.await = 0
		return true
	}
	if l.await > 0 && len(l.cuts) > 0 && s.end > l.cuts[0].at {
		if s.broken {
			l.await = 0
			return true
		}
		for i := range behind {
			if behind[i].broken {
				return true // it still belongs before the break
			}
		}
		if k.heard < l.await && k.frontier < l.await {
			return false
		}
		l.await = 0
	}
	if s.end > k.frontier && waited < k.wait {
		return false
	}
	if waited >= k.wait && k.heard-max(k.seen, k.last.at) >= k.wait {
		k.blind = true
	}
	return true
}

// answered reports whether the break before a sample of sound is one that was
// cut already.
func (k *cutting) answered(s *sample) bool {
	l := k.audio
	changed := l.track != nil && !l.track.SameConfig(s.packet.Track)
	for i := range l.cuts {
		if l.cuts[i].broken {
			return true
		}
	}
	if changed && l.began {
		return false
	}
	ok := !l.began && l.cur.broken || l.absorb > 0 && s.at <= l.absorb
	if ok {
		l.absorb = 0
	}
	return ok
}

// lead cuts at a sample of sound when there is no picture to do it.
func (k *cutting) lead(s *sample) {
	if s.end-k.since <= k.wish {
		return
	}
	grid := k.since + k.wish
	k.cut(s.at, false)
	if off := s.end - grid; off >= 0 && off <= 2*(s.end-s.at) { // the limit does not move by what frames do not fit
		k.since = grid
	}
	if k.video != nil {
		k.frontier = max(k.frontier, s.at)
	}
}

// settle ends segments of a lane whose samples stay away longer than they are
// waited for, and the part whose last picture stands still for so long.
func (k *cutting) settle() {
	late := max(k.frontier, k.heard-k.wait) - k.wait
	if l := k.audio; l != nil && len(l.held) == 0 {
		for len(l.cuts) > 0 && late >= l.cuts[0].at {
			l.pass(nil)
		}
	}
	l := k.video
	if l == nil {
		return
	}
	for len(l.cuts) > 0 && (k.blind || late >= l.cuts[0].at) {
		l.pass(nil)
	}
	if l.began && k.heard-k.seen >= k.wait {
		l.expire(k.heard - k.wait)
	}
}
