package rtmp

import (
	"time"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/ingest"
	"github.com/klive-media/klive/internal/media"
	"github.com/klive-media/klive/internal/rtmp/flv"
)

// maxCompanions bounds the further tracks of a connection: each is a session
// with all that it costs.
const maxCompanions = 7

// Ingest indices of further tracks: pictures follow the connection's own
// index, sound has those of further languages.
const (
	firstLanguage = 1000
	lastPicture   = firstLanguage - 1
)

// opening is the answer of the gate to a further track.
type opening struct {
	pub ingest.Publication
	err error
}

// tracks are the further tracks of a connection (Enhanced RTMP v2). The first
// video and audio track belong to the connection's own publication; each
// further one is a publication of its own beside it, asked for with the same
// token: a picture becomes a rendition of the stream, sound another language.
// So multitrack is nothing that the stream has to know of.
type tracks struct {
	index int // of the connection's own publication
	// open asks the gate for an ingest index; the answer comes on the channel,
	// unless the connection ends before.
	open func(index int) <-chan opening
	// refused is told of a track that is not carried, once, and why.
	refused func(k media.Kind, id uint8, err error)
	taken   func(n int64) // further tracks on air, by how many they changed

	main  [2]mainTrack // of video and audio
	byID  map[trackKey]*companion
	count int
}

// mainTrack is the number of the track that belongs to the connection's own
// publication: the first that came.
type mainTrack struct {
	known bool
	id    uint8
}

// trackKey tells the tracks of a connection apart.
type trackKey struct {
	kind media.Kind
	id   uint8
}

// companion is one further track.
type companion struct {
	d      *demuxer
	opened <-chan opening // nil when answered
	dead   bool
}

// route gives a message to the demuxer of its track. Only errors of the
// connection's own publication are returned: a further track that cannot be
// carried is left out, and the others go on.
func (ts *tracks) route(d *demuxer, k media.Kind, t *flv.Track, u *unit, now time.Time) error {
	m := &ts.main[0]
	if k == media.Audio {
		m = &ts.main[1]
	}
	if !m.known {
		*m = mainTrack{known: true, id: t.ID}
	}
	if t.ID == m.id {
		return d.enhancedUnit(k, t.FourCC, u, now)
	}
	c := ts.companion(d, k, t.ID)
	if !c.poll(ts, k, t.ID) {
		return nil
	}
	err := c.d.enhancedUnit(k, t.FourCC, u, now)
	if err == nil {
		err = c.d.settle(now)
	}
	if err != nil {
		ts.drop(c, k, t.ID, err)
	}
	return nil
}

// companion finds a further track, or asks for its place.
func (ts *tracks) companion(d *demuxer, k media.Kind, id uint8) *companion {
	key := trackKey{k, id}
	if c := ts.byID[key]; c != nil {
		return c
	}
	if ts.byID == nil {
		ts.byID = make(map[trackKey]*companion)
	}
	own := *d // for what belongs to the connection: slab, clock, metadata
	c := &companion{d: &demuxer{slab: own.slab, bad: own.bad, clock: own.clock, meta: own.meta, start: own.start, id: id}}
	ts.byID[key] = c
	index, ok := ts.indexOf(k, id)
	if ts.count >= maxCompanions || !ok {
		ts.drop(c, k, id, fault.New(fault.LimitExceeded, "at most %d further tracks of a connection are carried", maxCompanions))
		return c
	}
	ts.count++
	c.opened = ts.open(index)
	return c
}

// indexOf is the ingest index of a further track. The number 0 of a sender
// whose first track had another is taken for that one.
func (ts *tracks) indexOf(k media.Kind, id uint8) (index int, ok bool) {
	m, first := ts.main[0].id, ts.index
	if k == media.Audio {
		m, first = ts.main[1].id, firstLanguage-1
	}
	if id == 0 {
		id = m
	}
	index = first + int(id)
	return index, k == media.Audio || index <= lastPicture
}

// poll looks for the gate's answer, and reports whether messages of the track
// are wanted.
func (c *companion) poll(ts *tracks, k media.Kind, id uint8) bool {
	if c.opened == nil || c.dead {
		return !c.dead
	}
	select {
	case o := <-c.opened:
		c.opened = nil
		if o.err != nil {
			ts.drop(c, k, id, o.err)
			return false
		}
		c.d.pub = o.pub
		ts.taken(1)
	default:
	}
	return true
}

// drop leaves a further track out from here on.
func (ts *tracks) drop(c *companion, k media.Kind, id uint8, err error) {
	c.dead = true
	if c.d.pub != nil {
		c.d.pub.Close(err)
		c.d.pub = nil
		ts.taken(-1)
	}
	c.d = nil
	ts.refused(k, id, err)
}

// finish lets go what the further tracks hold back, and closes them.
func (ts *tracks) finish(cause error) {
	for key, c := range ts.byID {
		if !c.poll(ts, key.kind, key.id) || c.d.pub == nil {
			continue
		}
		if err := c.d.finish(); err != nil {
			ts.drop(c, key.kind, key.id, err)
			continue
		}
		c.dead = true
		c.d.pub.Close(cause)
		ts.taken(-1)
	}
}
