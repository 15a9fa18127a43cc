package stream

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/klive-media/klive/internal/media"
	"github.com/klive-media/klive/internal/pipeline"
)

// rendition is one version of a broadcast: the log that the sessions of one
// ingest index write one after the other.
type rendition struct {
	id    string
	index int
	// log is replaced by an empty one when the broadcast has ended, so that what
	// is shown of the past holds no media; final are its figures then.
	log   atomic.Pointer[pipeline.Log[media.Packet]]
	final pipeline.Stats // guarded by the registry's mu

	// tracks in force, video, audio, data.
	tracks atomic.Pointer[[]*media.Track]

	mu       sync.Mutex // guards the fields below and makes the writer one at a time
	known    map[media.TrackID]*media.Track
	hasVideo bool
	end      time.Duration // stream time after the newest packet

	discontinuities atomic.Uint64 // of the leading track

	// Guarded by the registry's mu.
	session  *session
	playable bool
}

var _ pipeline.Source = (*rendition)(nil)

// packetOverhead is what a packet weighs in a log beside its payload.
const packetOverhead = 128

func weighPacket(p *media.Packet) (int, time.Duration) {
	return len(p.Payload) + packetOverhead, p.DTS
}

func newRendition(id string, index int, bounds pipeline.Bounds, end time.Duration) *rendition {
	rd := &rendition{
		id: id, index: index, end: end,
		known: make(map[media.TrackID]*media.Track),
	}
	rd.log.Store(pipeline.NewLog(bounds, weighPacket))
	rd.tracks.Store(new([]*media.Track))
	return rd
}

// Tracks implements pipeline.Source.
func (rd *rendition) Tracks() []*media.Track { return *rd.tracks.Load() }

// Subscribe implements pipeline.Source.
func (rd *rendition) Subscribe(from pipeline.From) *pipeline.Cursor[media.Packet] {
	return rd.log.Load().Subscribe(from)
}

// closeLog ends the log: its readers come to their end.
func (rd *rendition) closeLog() {
	rd.mu.Lock() // no writer is inside Append
	defer rd.mu.Unlock()
	rd.log.Load().Close()
}

// release lets go of the media when nobody reads it any more; the registry's
// mu is held.
func (rd *rendition) release() {
	rd.final = rd.log.Load().Stats()
	empty := pipeline.NewLog(pipeline.Bounds{Entries: 1}, weighPacket)
	empty.Close()
	rd.log.Store(empty)
}

// stats are the log's; the registry's mu is held.
func (rd *rendition) stats() pipeline.Stats {
	st := rd.log.Load().Stats()
	if rd.final.Head > 0 {
		st = rd.final
		st.Bytes, st.Entries, st.Span = 0, 0, 0
	}
	return st
}

// bind gives the announced tracks their place in the stream. A track whose
// configuration did not change keeps its description, so that a publisher that
// comes back, or announces again, makes no new init section.
func (rd *rendition) bind(s *session, tracks []*media.Track) []binding {
	rd.mu.Lock()
	defer rd.mu.Unlock()
	var n [4]int
	out := make([]binding, 0, len(tracks))
	own := make([]*media.Track, 0, len(tracks))
	rd.hasVideo = false
	for _, kind := range [...]media.Kind{media.Video, media.Audio, media.Data} {
		for _, t := range tracks {
			if t.Kind != kind {
				continue
			}
			c := *t
			c.ID = media.NewTrackID(rd.index, kind, n[kind])
			n[kind]++
			b := s.pending(c.ID)
			b.door, b.own = t, &c
			was := rd.known[c.ID]
			if was.SameConfig(&c) {
				b.own = was
			} else {
				b.newConfig = was != nil
				rd.known[c.ID] = &c
			}
			rd.hasVideo = rd.hasVideo || kind == media.Video
			own = append(own, b.own)
			out = append(out, b)
		}
	}
	rd.tracks.Store(&own)
	return out
}

// pending is a binding with the flags that the track's next packet still has
// to carry when the tracks are announced again.
func (s *session) pending(id media.TrackID) binding {
	for _, b := range s.bindings {
		if b.own.ID == id {
			return binding{newConfig: b.newConfig, newTimeline: b.newTimeline}
		}
	}
	return binding{newTimeline: s.rejoined}
}

// append adds a packet in stream time; false when the session was dismissed
// meanwhile, so that a superseded writer never writes behind its successor.
func (rd *rendition) append(s *session, p media.Packet) bool {
	rd.mu.Lock()
	defer rd.mu.Unlock()
	if s.cause.Load() != nil {
		return false
	}
	if p.Track.Kind != media.Data {
		rd.end = max(rd.end, p.DTS+p.Duration)
	}
	leads := p.Track.Kind == media.Video || !rd.hasVideo && p.Track.Kind == media.Audio
	if leads && p.Flags.Has(media.Discontinuity) {
		rd.discontinuities.Add(1)
	}
	sync := leads && p.Flags.Has(media.Key)
	rd.log.Load().Append(s.slab.New(p), sync)
	return true
}

// written is the stream time up to which the rendition has media.
func (rd *rendition) written() time.Duration {
	rd.mu.Lock()
	defer rd.mu.Unlock()
	return rd.end
}
