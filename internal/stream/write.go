package stream

import (
	"time"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/media"
	"github.com/klive-media/klive/internal/pipeline"
)

// Announce implements ingest.Publication.
func (s *session) Announce(tracks []*media.Track) error {
	if c := s.Cause(); c != nil {
		return c
	}
	if err := checkTracks(tracks); err != nil {
		return err
	}
	if s.rendition == nil {
		if err := s.reg.goOnAir(s); err != nil {
			return err
		}
	}
	rd := s.rendition
	s.bindings = rd.bind(s, tracks)
	s.reg.mu.Lock()
	s.reg.touch(s.shelf.Stream)
	s.reg.mu.Unlock()
	return nil
}

// checkTracks refuses what no output could carry.
func checkTracks(tracks []*media.Track) error {
	var n [4]int
	for _, t := range tracks {
		if t.Kind != media.Data && t.Codec.Info().SampleEntry == "" {
			return fault.New(fault.UnsupportedCodec, "%s cannot be carried; use H.264 video and AAC audio", t.Codec)
		}
		if n[t.Kind&3]++; n[t.Kind&3] > media.MaxTracksPerKind {
			return fault.New(fault.UnsupportedLayout, "more than %d %s tracks", media.MaxTracksPerKind, t.Kind)
		}
	}
	if n[media.Video] > 1 || n[media.Audio] > 1 {
		return fault.New(fault.UnsupportedLayout, "one video and one audio track can be carried, not %d and %d", n[media.Video], n[media.Audio])
	}
	if n[media.Video]+n[media.Audio] == 0 {
		return fault.New(fault.NoMedia, "the publication has neither picture nor sound")
	}
	return nil
}

// Write implements ingest.Publication.
func (s *session) Write(p media.Packet) error {
	if c := s.Cause(); c != nil {
		return c
	}
	b := s.binding(p.Track)
	if b == nil {
		return fault.New(fault.ProtocolError, "media of a track that was not announced")
	}
	if p.Captured.IsZero() {
		p.Captured = time.Now()
	}
	if p.Track.Kind == media.Data {
		return s.writeData(p, b)
	}
	s.heard(p.Captured)
	s.avWire = p.DTS
	if !s.joined.Load() {
		s.join(&p)
		for _, e := range s.early {
			e.DTS, e.PTS = p.DTS, p.DTS
			if b := s.binding(e.Track); b != nil {
				if err := s.append(e, b); err != nil {
					return err
				}
			}
		}
		s.early = nil
	}
	return s.append(p, b)
}

// writeData adds a data packet. Its time is the picture's and sound's where its
// own is plainly not on their clock.
func (s *session) writeData(p media.Packet, b *binding) error {
	if !s.joined.Load() {
		if len(s.early) < maxEarly {
			s.early = append(s.early, p)
		}
		return nil
	}
	if d := p.DTS - s.avWire; d > dataSlack || d < -dataSlack {
		p.DTS, p.PTS = s.avWire, s.avWire
	}
	return s.append(p, b)
}

func (s *session) binding(t *media.Track) *binding {
	for i := range s.bindings {
		if s.bindings[i].door == t {
			return &s.bindings[i]
		}
	}
	return nil
}

// append repairs the packet's time and puts it into the rendition's log.
func (s *session) append(p media.Packet, b *binding) error {
	p.Track = b.own
	switch s.time.Map(&p) {
	case pipeline.NoRepair:
	case pipeline.Dropped:
		s.reg.counters.DroppedPackets.Add(1)
		return nil
	case pipeline.Jumped:
		if err := s.jumped(p.Captured); err != nil {
			return err
		}
	default:
		s.offset.Store(int64(s.time.Offset())) // a shift moved it
		s.repairs.Add(1)
		s.reg.counters.TimeRepairs.Add(1)
	}
	if b.newConfig {
		p.Flags |= media.NewConfig
		b.newConfig = false
	}
	if b.newTimeline {
		p.Flags |= media.Discontinuity
		b.newTimeline = false
	}
	if p.Flags.Has(media.Discontinuity) {
		s.discontinuities.Add(1)
		s.reg.counters.Discontinuities.Add(1)
	}
	size := uint64(len(p.Payload))
	if !s.rendition.append(s, p) {
		return s.Cause()
	}
	s.packets.Add(1)
	s.bytes.Add(size)
	s.reg.counters.Packets.Add(1)
	s.reg.counters.MediaBytes.Add(size)
	return nil
}

// How often a sender's clock may jump within jumpWindow: the first toldJumps
// are events, after maxJumps the sender is dismissed, as every jump costs a
// segment in every rendition.
const (
	jumpWindow = time.Minute
	toldJumps  = 5
	maxJumps   = 60
)

// jumps counts them within a window.
type jumps struct {
	since time.Time
	n     int
}

// jumped notes that the sender's clock jumped and was anchored anew.
func (s *session) jumped(now time.Time) error {
	was, is := s.offset.Load(), int64(s.time.Offset())
	s.offset.Store(is)
	s.repairs.Add(1)
	s.reg.counters.TimeRepairs.Add(1)
	if now.Sub(s.jumps.since) > jumpWindow {
		s.jumps = jumps{since: now}
	}
	if s.jumps.n++; s.jumps.n > maxJumps {
		s.dismiss(fault.New(fault.BadMedia, "the timestamps jumped more than %d times within a minute; check the encoder's clock or its source", maxJumps))
		return s.Cause()
	}
	if s.jumps.n <= toldJumps {
		s.reg.opts.Journal.Record(Event{
			Type: TimelineRepaired, Stream: s.shelf.Stream, Session: s.id,
			Message: "the encoder's timestamps jumped; the stream goes on without the jump",
			Facts:   map[string]string{"jump": (time.Duration(was - is)).String()},
		})
	}
	return nil
}

// join puts the session's first packet onto the stream's timeline (see
// broadcast.joinAt).
func (s *session) join(p *media.Packet) {
	r := s.reg
	r.mu.Lock()
	j := s.broadcast.joinAt(s, p.DTS, p.Captured)
	s.offsetMethod = j.method
	s.offset.Store(int64(j.at - p.DTS))
	s.joined.Store(true)
	r.touch(s.shelf.Stream)
	r.mu.Unlock()

	s.time.Join(j.at)
	s.rejoined = j.discontinuity
	for i := range s.bindings {
		s.bindings[i].newTimeline = j.discontinuity
	}
	if j.finding != 0 {
		r.opts.Journal.Record(Event{
			Type: OffsetFound, Stream: s.shelf.Stream, Session: s.id,
			Message: "this rendition arrives earlier or later than its clock says, compared with the rendition that came first",
			Facts:   map[string]string{"offset": j.finding.String(), "method": j.method},
		})
	}
}
