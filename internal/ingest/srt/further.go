package srt

import (
	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/ingest"
	"github.com/klive-media/klive/internal/media"
)

// Ingest indices of further tracks: pictures follow the connection's own
// index, sound has those of further languages.
const (
	firstLanguage = 1000
	lastPicture   = firstLanguage - 1
)

const (
	// maxFurther bounds the further tracks of a connection: each is a session
	// with all that it costs.
	maxFurther = 7
	// maxFurtherHeld bounds what is held back of a further track until the gate
	// has answered: seconds of sound.
	maxFurtherHeld = 256
)

// opening is the answer of the gate to a further track.
type opening struct {
	pub ingest.Publication
	err error
}

// further are the tracks of a connection behind the first picture and the
// first sound. Each is a publication of its own, asked for with the same
// token: a picture becomes a rendition of the stream, sound another language
// (docs/adr/0013-multitrack.md).
type further struct {
	index int // of the connection's own publication
	// open asks the gate for an ingest index; the answer comes on the channel,
	// unless the connection ends before. nil: the connection is ending.
	open func(index int) <-chan opening
	// refused is told of a track that is not carried, once, and why.
	refused func(t *media.Track, err error)
	taken   func(n int64) // further tracks on air, by how many they changed

	tracks map[trackKey]*companion
	count  int
}

// trackKey tells the tracks of a connection apart.
type trackKey struct {
	kind media.Kind
	id   media.TrackID
}

// companion is one further track.
type companion struct {
	opened <-chan opening // nil when answered
	pub    ingest.Publication
	track  *media.Track // as announced
	newest *media.Track // of the newest packet
	held   []media.Packet
	dead   bool
}

// pass gives a packet to the publication of its track. main is the number of
// the track of its kind that is the connection's own. What goes wrong ends the
// track, not the connection.
func (f *further) pass(p media.Packet, main media.TrackID) {
	key := trackKey{p.Track.Kind, p.Track.ID}
	c := f.tracks[key]
	if c == nil {
		c = f.begin(p.Track, main)
		f.tracks[key] = c
	}
	c.newest = p.Track
	f.poll(c)
	switch {
	case c.dead:
	case c.pub != nil:
		f.write(c, p)
	case len(c.held) < maxFurtherHeld:
		c.held = append(c.held, p)
	default: // the gate is slow; what is old is worth least
		copy(c.held, c.held[1:])
		c.held[len(c.held)-1] = p
	}
}

// begin asks for the place of a further track.
func (f *further) begin(t *media.Track, main media.TrackID) *companion {
	c := new(companion)
	id := t.ID
	if id == 0 { // the first one came late: its number is free
		id = main
	}
	index := f.index + int(id)
	if t.Kind == media.Audio {
		index = firstLanguage - 1 + int(id)
	}
	if f.count >= maxFurther || t.Kind == media.Video && index > lastPicture {
		f.drop(c, t, fault.New(fault.LimitExceeded, "at most %d further tracks of a connection are carried", maxFurther))
		return c
	}
	f.count++
	if c.opened = f.open(index); c.opened == nil {
		c.dead = true
	}
	return c
}

// poll looks for the gate's answer.
func (f *further) poll(c *companion) {
	if c.opened == nil {
		return
	}
	select {
	case o := <-c.opened:
		c.opened = nil
		if o.err != nil {
			f.drop(c, c.newest, o.err)
			return
		}
		c.pub = o.pub
		f.taken(1)
		held := c.held
		c.held = nil
		for _, p := range held {
			if !c.dead {
				f.write(c, p)
			}
		}
	default:
	}
}

// write writes a packet, and announces its track where that is new.
func (f *further) write(c *companion, p media.Packet) {
	var err error
	if c.track != p.Track {
		c.track = p.Track
		err = c.pub.Announce([]*media.Track{p.Track})
	}
	if err == nil {
		err = c.pub.Write(p)
	}
	if err != nil {
		f.drop(c, p.Track, err)
	}
}

// drop leaves a further track out from here on.
func (f *further) drop(c *companion, t *media.Track, err error) {
	c.dead, c.held = true, nil
	if c.pub != nil {
		c.pub.Close(err)
		c.pub = nil
		f.taken(-1)
	}
	f.refused(t, err)
}

// finish closes the further tracks with the connection's cause.
func (f *further) finish(cause error) {
	for _, c := range f.tracks {
		f.poll(c)
		if c.pub != nil {
			c.pub.Close(cause)
			c.pub = nil
			f.taken(-1)
		}
		c.dead = true
	}
}
