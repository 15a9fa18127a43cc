package srt

import (
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/klive-media/klive/internal/fault"
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
// holds packets back until then. It belongs to one goroutine.
type feeder struct {
	pub ingest.Publication
	log *slog.Logger
	now time.Time

	tracks    []*media.Track // as the demuxer told them last
	complete  bool
	carried   []*media.Track // as they were announced; a part of tracks
	announced bool
	narrowed  bool      // it was logged that some are left out
	firstAt   time.Time // when the first picture or sound was known

	held      []media.Packet
	heldBytes int
}

func newFeeder(pub ingest.Publication, log *slog.Logger, now time.Time) *feeder {
	return &feeder{pub: pub, log: log, now: now}
}

// write demuxes bytes that arrived now.
func (f *feeder) write(d *ts.Demuxer, b []byte, now time.Time) error {
	f.now = now
	if err := d.Write(b, now); err != nil {
		return err
	}
	if f.announced || !f.ready() {
		return nil
	}
	return f.announce()
}

// end lets go what is unfinished or held back only because more could come.
func (f *feeder) end(d *ts.Demuxer) error {
	if f.pub.Cause() != nil {
		return nil // nobody wants it
	}
	if err := d.Finish(); err != nil {
		return err
	}
	if f.announced || !playable(f.tracks) {
		return nil
	}
	return f.announce()
}

// Tracks implements ts.Sink.
func (f *feeder) Tracks(tracks []*media.Track, complete bool) error {
	f.tracks, f.complete = tracks, complete
	if f.firstAt.IsZero() && playable(tracks) {
		f.firstAt = f.now
	}
	if f.announced && playable(tracks) || !f.announced && f.ready() {
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
	return f.complete || f.now.Sub(f.firstAt) >= ingest.AnnounceWait || len(f.held) >= maxHeld || f.heldBytes >= maxHeldBytes
}

// announce declares the tracks and lets go what was held back for them. Where
// the server does not carry several pictures or sounds of one publication, the
// first of each goes on air.
func (f *feeder) announce() error {
	carried := f.tracks
	err := f.pub.Announce(carried)
	if errors.Is(err, fault.New(fault.UnsupportedLayout, "")) && f.pub.Cause() == nil {
		if narrow := firsts(f.tracks); len(narrow) < len(f.tracks) {
			if !f.narrowed {
				f.narrowed = true
				f.log.Warn("only the first picture and the first sound of the publication are carried", "tracks", len(f.tracks), "because", err)
			}
			carried = narrow
			err = f.pub.Announce(carried)
		}
	}
	if err != nil {
		return err
	}
	f.carried, f.announced = carried, true
	held := f.held
	f.held, f.heldBytes = nil, 0
	for _, p := range held {
		if err := f.pass(p); err != nil {
			return err
		}
	}
	return nil
}

// firsts are the first picture, the first sound and all data.
func firsts(tracks []*media.Track) (list []*media.Track) {
	var have [media.Data + 1]bool
	for _, t := range tracks {
		if t.Kind == media.Data || !have[t.Kind] {
			have[t.Kind] = true
			list = append(list, t)
		}
	}
	return list
}

// Packet implements ts.Sink.
func (f *feeder) Packet(p media.Packet) error {
	if f.announced {
		return f.pass(p)
	}
	if len(f.held) >= maxHeld || f.heldBytes+len(p.Payload) > maxHeldBytes {
		if !f.ready() {
			return nil // data without media: nobody will see it
		}
		if err := f.announce(); err != nil {
			return err
		}
		return f.pass(p)
	}
	f.held = append(f.held, p)
	f.heldBytes += len(p.Payload)
	return nil
}

// pass writes a packet of a track that is carried. One that was held back may
// be of a track that changed since: nothing could decode it.
func (f *feeder) pass(p media.Packet) error {
	if !slices.Contains(f.carried, p.Track) {
		return nil
	}
	return f.pub.Write(p)
}
