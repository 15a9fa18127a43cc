package pipeline

import (
	"time"

	"github.com/klive-media/klive/internal/media"
)

// Repair is what a Normalizer did to a packet besides moving it onto the
// stream's timeline.
type Repair uint8

// The repairs.
const (
	NoRepair Repair = iota
	// Jumped: the wire clock jumped, and a new offset lets the timeline go on in
	// real time. This packet and the next one of every other track carry
	// Discontinuity; the jump is reported once.
	Jumped
	// Shifted: the tracks on this track's clock were moved later together, so
	// that this one does not overlap what it wrote. Nothing is lost; Offset
	// changed.
	Shifted
	// Nudged: the decoding time did not increase and was put just behind the
	// packet before.
	Nudged
	// Dropped: the session has more tracks than a Normalizer keeps state for.
	// The packet is not changed and must not be used.
	Dropped
)

// NormalizerOptions are the limits of a Normalizer. A zero field means its
// default.
type NormalizerOptions struct {
	// MaxJump is how far the wire clock may run ahead of the arrival in one step
	// before that is a jump; default 1 s. A step that long or shorter never is:
	// a slow picture, or a sender that pushes a file as fast as it can.
	MaxJump time.Duration
	// MaxReorder is how far the wire clock of a track may step back before that
	// is a jump; default 200 ms. Packets within it are nudged.
	MaxReorder time.Duration
}

const (
	defaultMaxJump    = time.Second
	defaultMaxReorder = 200 * time.Millisecond

	// minStep lies between two packets of a track at least: more than one tick
	// of every time scale an output counts in, so that they stay apart there.
	minStep = 100 * time.Microsecond
	// maxStart is how far a track's first packet may lie from the others before
	// it is taken to be on a clock of its own.
	maxStart = 3 * time.Second
	// crossing is how far from its expected time a track may land when it
	// follows another over a jump.
	crossing = 2 * time.Second
	// skewWindow is how long a sender that fell behind its own clock, in a
	// congested network, has to catch up by skipping. Two windows are kept.
	skewWindow = 30 * time.Second
	// maxTracks bounds the state.
	maxTracks = 64
	// farthest bounds what is believed of a wire clock, and longest of the time
	// between two packets, so that no sum overflows.
	farthest = 1 << 60 * time.Nanosecond
	longest  = 24 * time.Hour
)

// NormalizerStats counts the repairs of a Normalizer.
type NormalizerStats struct {
	Jumps, Shifts, Nudges, Drops uint64
	// EarlyPTS counts packets whose PTS was before their DTS.
	EarlyPTS uint64
}

// Normalizer moves the packets of one session from the wire clock onto the
// stream's timeline and repairs what the wire clock does wrong. What comes out
// of it holds, whatever goes in: no track ever goes back, DTS strictly
// increases within a track, PTS is never before DTS, and nothing is before the
// point where the session joined.
//
// All tracks share one offset between wire and stream. When the wire clock of
// a track jumps, a new offset is made so that the timeline goes on in real
// time, as the arrival of the packets says. The tracks of a session jump
// together but not at the same packet: each keeps the offset it has while its
// own clock goes on, and takes over that of the others when its clock jumps
// to where they are. So the jump counts once, and the tracks stay in step.
//
// A jump is told by two clocks. Backward by more than MaxReorder always is
// one. Forward is one when a step leads the wire clock further ahead of the
// arrival than it was in the last half minute: an outage of five seconds, after
// which the wire clock is five seconds on, is none; nor is catching up after
// congestion. A wire clock that runs fast or slow, such as that of a file
// pushed without pacing, is followed.
//
// Data tracks, whose senders are careless with time, never move anything: when
// their clock does not fit they are put where picture and sound are.
//
// A Normalizer belongs to one goroutine. It allocates only at the first packet
// of a track.
type Normalizer struct {
	o NormalizerOptions

	joining  bool          // the next packet of picture or sound sets the offset
	joinAt   time.Duration // with joining: the stream time it gets
	byOffset bool          // with joining: offset is set, joinAt is not
	floor    time.Duration // the stream time where the session joined

	offset   time.Duration // stream minus wire, of the newest anchor
	previous time.Duration // the one before, when moved
	moved    bool          // there was a jump since the session joined

	last    time.Time     // arrival of the newest packet
	arrival time.Duration // the same, since the first one

	newest, newestArrival time.Duration // largest DTS of picture and sound, and its arrival

	// The largest DTS minus arrival, in this window and the one before.
	skew, pastSkew time.Duration
	skewSince      time.Duration

	tracks []trackTime
	stats  NormalizerStats
}

// trackTime is where a track is.
type trackTime struct {
	id      media.TrackID
	clocked bool          // wire, arrival, step and offset are set
	written bool          // out is set
	wire    time.Duration // largest DTS on its clock
	arrival time.Duration
	step    time.Duration // the last sound step of the wire clock
	offset  time.Duration // stream minus wire, of this track
	out     time.Duration // DTS of its newest packet
	owes    bool          // its next packet carries Discontinuity
}

// NewNormalizer makes a Normalizer that joins at stream time 0 unless told
// otherwise.
func NewNormalizer(o NormalizerOptions) *Normalizer {
	if o.MaxJump <= 0 {
		o.MaxJump = defaultMaxJump
	}
	if o.MaxReorder <= 0 {
		o.MaxReorder = defaultMaxReorder
	}
	return &Normalizer{o: o, joining: true, tracks: make([]trackTime, 0, 4)}
}

// Join makes the next packet of picture or sound have the stream time at as
// DTS. Packets of other tracks that are older on the wire do not go before it.
func (n *Normalizer) Join(at time.Duration) {
	n.joining, n.byOffset, n.joinAt = true, false, clamp(at)
	n.floor = n.joinAt
}

// JoinOffset makes stream time be wire time plus offset from the next packet
// of picture or sound on, as for a session that shares the wire clock of
// another. That packet is where the session joins.
func (n *Normalizer) JoinOffset(offset time.Duration) {
	n.joining, n.byOffset, n.offset = true, true, clamp(offset)
}

// Offset is stream time minus wire time, of the newest anchor.
func (n *Normalizer) Offset() time.Duration { return n.offset }

// Stats counts what was repaired since the beginning.
func (n *Normalizer) Stats() NormalizerStats { return n.stats }

// Map moves the packet's DTS and PTS from wire time, unwrapped, to stream time
// and sets Discontinuity where the timeline was repaired. Track and Captured
// are read.
func (n *Normalizer) Map(p *media.Packet) Repair {
	t := n.track(p.Track.ID)
	if t == nil {
		n.stats.Drops++
		return Dropped
	}
	n.tick(p.Captured)
	wire := clamp(p.DTS)
	composition := clamp(p.PTS) - wire
	if composition < 0 {
		composition = 0
		n.stats.EarlyPTS++
	}
	if p.Track.Kind == media.Data {
		p.DTS = n.place(t, n.dataTime(wire))
		p.PTS = p.DTS + composition
		return NoRepair
	}
	r := n.follow(t, wire)
	at := wire + t.offset
	p.DTS = n.place(t, at)
	p.PTS = max(at+composition, p.DTS)
	if p.DTS != at && r == NoRepair {
		n.stats.Nudges++
		r = Nudged
	}
	if t.owes {
		t.owes = false
		p.Flags |= media.Discontinuity
	}
	n.note(p.DTS)
	return r
}

// track finds the state of a track; nil when there are too many.
func (n *Normalizer) track(id media.TrackID) *trackTime {
	for i := range n.tracks {
		if n.tracks[i].id == id {
			return &n.tracks[i]
		}
	}
	if len(n.tracks) == maxTracks {
		return nil
	}
	n.tracks = append(n.tracks, trackTime{id: id})
	return &n.tracks[len(n.tracks)-1]
}

// tick takes note of an arrival. It counts forward steps only.
func (n *Normalizer) tick(captured time.Time) {
	switch {
	case captured.IsZero():
	case n.last.IsZero():
		n.last = captured
	case captured.After(n.last):
		n.arrival += min(captured.Sub(n.last), longest)
		n.last = captured
	}
}

// follow sets the track's offset for a packet at the wire time.
func (n *Normalizer) follow(t *trackTime, wire time.Duration) Repair {
	r := NoRepair
	switch {
	case n.joining:
		n.join(t, wire)
	case !t.clocked:
		r = n.meet(t, wire)
	case n.jumped(t, wire):
		r = n.jump(t, wire)
	}
	if step := wire - t.wire; t.clocked && r == NoRepair && step > 0 {
		t.step = min(step, n.o.MaxJump)
	}
	if !t.clocked || r != NoRepair || wire > t.wire {
		t.wire = wire
	}
	t.clocked, t.arrival = true, n.arrival
	return r
}

// join anchors the session at its first packet. Other tracks meet it there.
func (n *Normalizer) join(t *trackTime, wire time.Duration) {
	if n.byOffset {
		n.joinAt = max(wire+n.offset, 0)
		n.floor = n.joinAt
	}
	if t.written {
		n.joinAt = max(n.joinAt, t.out+minStep)
	}
	n.joining, n.moved = false, false
	n.offset = n.joinAt - wire
	t.offset = n.offset
	for i := range n.tracks {
		n.tracks[i].clocked = false
	}
	n.newest, n.newestArrival = n.joinAt, n.arrival
	n.skew = n.joinAt - n.arrival
	n.pastSkew, n.skewSince = n.skew, n.arrival
}

// meet gives a track at its first packet the offset of the session, or one of
// its own when it is on a clock of its own.
func (n *Normalizer) meet(t *trackTime, wire time.Duration) Repair {
	at := wire + n.offset
	expected := n.newest + n.arrival - n.newestArrival
	if at < expected-maxStart && at < n.newest-maxStart || at-n.arrival > n.lead()+maxStart {
		return n.reanchor(t, wire, expected)
	}
	t.offset = n.offset
	if at < n.least(t)-n.o.MaxReorder { // more than a nudge can repair
		return n.shift(t, wire)
	}
	return NoRepair
}

// lead is the furthest that stream time was ahead of arrival lately.
func (n *Normalizer) lead() time.Duration { return max(n.skew, n.pastSkew) }

// jumped reports whether the step to the wire time is no step of one clock.
func (n *Normalizer) jumped(t *trackTime, wire time.Duration) bool {
	step := wire - t.wire
	return step < -n.o.MaxReorder ||
		step > n.o.MaxJump && wire+t.offset-n.arrival > n.lead()+n.o.MaxJump
}

// jump follows another track to where it jumped, or is the first to jump.
func (n *Normalizer) jump(t *trackTime, wire time.Duration) Repair {
	expected := t.out + max(n.arrival-t.arrival, t.step)
	was := t.offset
	if n.offset != was && n.fits(wire, n.offset, expected) {
		t.offset = n.offset
		t.wire = wire // the step over the jump tells nothing of the track's pace
		if wire+t.offset < n.least(t) {
			return n.shift(t, wire)
		}
		return NoRepair
	}
	// After a single wrong time, back to where it came from or others still are.
	if n.moved && n.fits(wire, n.previous, expected) && wire+n.previous >= n.least(t) {
		return n.reanchor(t, wire, wire+n.previous)
	}
	for i := range n.tracks {
		o := &n.tracks[i]
		if o.clocked && o.offset != was && n.fits(wire, o.offset, expected) && wire+o.offset >= n.least(t) {
			return n.reanchor(t, wire, wire+o.offset)
		}
	}
	return n.reanchor(t, wire, expected)
}

// fits reports whether an offset takes the wire time to where it is expected.
func (n *Normalizer) fits(wire, offset, expected time.Duration) bool {
	return (wire + offset - expected).Abs() <= crossing
}

// reanchor makes the wire time the stream time at, and every track owe a
// Discontinuity.
func (n *Normalizer) reanchor(t *trackTime, wire, at time.Duration) Repair {
	n.previous, n.offset, n.moved = n.offset, max(at, n.least(t))-wire, true
	t.offset = n.offset
	for i := range n.tracks {
		n.tracks[i].owes = true
	}
	n.stats.Jumps++
	return Jumped
}

// shift moves every track that shares this one's offset later, by what this
// one lacks.
func (n *Normalizer) shift(t *trackTime, wire time.Duration) Repair {
	old, least := t.offset, n.least(t)
	if t.written {
		least = max(least, t.out+t.step)
	}
	late := least - (wire + old)
	for i := range n.tracks {
		if n.tracks[i].offset == old {
			n.tracks[i].offset += late
		}
	}
	n.offset += late
	n.stats.Shifts++
	return Shifted
}

// least is the earliest DTS a track may have.
func (n *Normalizer) least(t *trackTime) time.Duration {
	if !t.written {
		return n.floor
	}
	return max(n.floor, t.out+minStep)
}

// place puts a packet of the track at a stream time, or as soon after it as
// the track allows.
func (n *Normalizer) place(t *trackTime, at time.Duration) time.Duration {
	t.out = max(at, n.least(t))
	t.written = true
	return t.out
}

// dataTime is the stream time of a data packet.
func (n *Normalizer) dataTime(wire time.Duration) time.Duration {
	if n.joining {
		return n.floor
	}
	at := wire + n.offset
	if at < n.newest-maxStart || at-n.arrival > n.lead()+maxStart {
		return n.newest
	}
	return at
}

// note keeps the newest time and how far it is ahead of arrival.
func (n *Normalizer) note(at time.Duration) {
	if at > n.newest {
		n.newest, n.newestArrival = at, n.arrival
	}
	if n.arrival-n.skewSince > skewWindow {
		n.pastSkew, n.skew, n.skewSince = n.skew, at-n.arrival, n.arrival
	}
	n.skew = max(n.skew, at-n.arrival)
}

// clamp keeps a time within what is believed.
func clamp(d time.Duration) time.Duration { return min(max(d, -farthest), farthest) }
