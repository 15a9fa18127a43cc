package srt

import (
	"cmp"
	"slices"
	"time"

	"github.com/klive-media/klive/internal/ingest"
	"github.com/klive-media/klive/internal/ingest/srt/ts"
	"github.com/klive-media/klive/internal/media"
)

// Bounds of what is held back until the tracks are announced. They are met
// only by media that comes faster than it plays.
const (
	maxHeld      = 1024
	maxHeldBytes = 4 << 20
)

// feeder brings what a demuxer finds to a publication: it announces the tracks
// when the program's are complete, or ingest.AnnounceWait after the first, and
// holds packets back until each of them has one, or ingest.AnnounceWait longer:
// a transport stream carries sound later than the picture that goes with it,
// and the earliest packet has to be the first. The first picture, the first sound and all
// data are the connection's own; further tracks go their way. It belongs to
// one goroutine.
type feeder struct {
	pub  ingest.Publication
	more *further
	now  time.Time

	tracks    []*media.Track // as the demuxer told them last
	complete  bool
	own       []*media.Track // as they were announced; a part of tracks
	main      [media.Data]mainTrack
	announced time.Time // zero: not yet
	flowing   bool      // nothing is held back any more
	firstAt   time.Time // when the first picture or sound was known

	held      []media.Packet
	heldBytes int
}

// mainTrack is the number of the picture or sound that is the connection's
// own: the lowest when it was announced.
type mainTrack struct {
	known bool
	id    media.TrackID
}

func newFeeder(pub ingest.Publication, more *further, now time.Time) *feeder {
	if more.tracks == nil {
		more.tracks = make(map[trackKey]*companion)
	}
	return &feeder{pub: pub, more: more, now: now}
}

// write demuxes bytes that arrived now.
func (f *feeder) write(d *ts.Demuxer, b []byte, now time.Time) error {
	f.now = now
	if err := d.Write(b, now); err != nil {
		return err
	}
	switch {
	case f.flowing:
		return nil
	case !f.announced.IsZero():
		return f.begin(f.now.Sub(f.announced) >= ingest.AnnounceWait)
	case f.ready():
		return f.announce()
	}
	return nil
}

// end lets go what is unfinished or held back only because more could come.
func (f *feeder) end(d *ts.Demuxer) error {
	if f.pub.Cause() != nil {
		return nil // nobody wants it
	}
	if err := d.Finish(); err != nil {
		return err
	}
	if f.announced.IsZero() && playable(f.tracks) {
		if err := f.announce(); err != nil {
			return err
		}
	}
	if f.announced.IsZero() || f.flowing {
		return nil
	}
	return f.begin(true)
}

// Tracks implements ts.Sink.
func (f *feeder) Tracks(tracks []*media.Track, complete bool) error {
	f.tracks, f.complete = tracks, complete
	if f.firstAt.IsZero() && playable(tracks) {
		f.firstAt = f.now
	}
	if !f.announced.IsZero() && playable(tracks) || f.announced.IsZero() && f.ready() {
		return f.announce()
	}
	return nil
}

// playable reports whether there is picture or sound among the tracks.
func playable(tracks []*media.Track) bool {
	return slices.ContainsFunc(tracks, func(t *media.Track) bool { return t.Kind != media.Data })
}

// ready reports whether the tracks known now are to be announced.
func (f *feeder) ready() bool {
	if !playable(f.tracks) {
		return false
	}
	return f.complete || f.now.Sub(f.firstAt) >= ingest.AnnounceWait || f.full()
}

// full reports whether no more can be held back.
func (f *feeder) full() bool { return len(f.held) >= maxHeld || f.heldBytes >= maxHeldBytes }

// announce declares the connection's own tracks.
func (f *feeder) announce() error {
	own := f.chooseOwn()
	if f.announced.IsZero() || !slices.Equal(own, f.own) {
		if err := f.pub.Announce(own); err != nil {
			return err
		}
	}
	f.own = own
	if f.announced.IsZero() {
		f.announced = f.now
	}
	if f.flowing {
		return nil
	}
	return f.begin(f.full())
}

// begin lets go what was held back, in order of time, when each of the
// connection's own pictures and sounds is among it, or anyway.
func (f *feeder) begin(anyway bool) error {
	for _, t := range f.own {
		there := func(p media.Packet) bool { return p.Track == t }
		if !anyway && t.Kind != media.Data && !slices.ContainsFunc(f.held, there) {
			return nil
		}
	}
	held := f.held
	f.held, f.heldBytes, f.flowing = nil, 0, true
	slices.SortStableFunc(held, func(a, b media.Packet) int { return cmp.Compare(a.DTS, b.DTS) })
	for _, p := range held {
		if err := f.pass(p); err != nil {
			return err
		}
	}
	return nil
}

// chooseOwn picks the connection's own tracks.
func (f *feeder) chooseOwn() (own []*media.Track) {
	for _, t := range f.tracks { // in the order of their numbers
		if t.Kind != media.Data {
			if m := &f.main[t.Kind]; !m.known {
				*m = mainTrack{known: true, id: t.ID}
			}
			if f.main[t.Kind].id != t.ID {
				continue
			}
		}
		own = append(own, t)
	}
	return own
}

// Packet implements ts.Sink.
func (f *feeder) Packet(p media.Packet) error {
	if f.flowing {
		return f.pass(p)
	}
	if f.full() {
		if f.announced.IsZero() && !f.ready() {
			return nil // data without media: nobody will see it
		}
		if f.announced.IsZero() {
			if err := f.announce(); err != nil {
				return err
			}
		}
		if !f.flowing { // announce began it
			if err := f.begin(true); err != nil {
				return err
			}
		}
		return f.pass(p)
	}
	f.held = append(f.held, p)
	f.heldBytes += len(p.Payload)
	if f.announced.IsZero() {
		return nil
	}
	return f.begin(false)
}

// pass writes a packet. One that was held back may be of a track that changed
// since: nothing could decode it.
func (f *feeder) pass(p media.Packet) error {
	switch {
	case slices.Contains(f.own, p.Track):
		return f.pub.Write(p)
	case p.Track.Kind != media.Data && f.main[p.Track.Kind].known && f.main[p.Track.Kind].id != p.Track.ID:
		f.more.pass(p, f.main[p.Track.Kind].id)
	}
	return nil
}
