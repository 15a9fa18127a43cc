package ts

import (
	"bytes"
	"time"

	"github.com/klive-media/klive/internal/media"
)

// unitTimes are those of a unit of an elementary stream, unwrapped.
type unitTimes struct {
	dts, pts time.Duration
	known    bool // the unit has times of its own
	random   bool // the sender says that decoding can start here
}

// parser reads the payloads of the PES packets of one elementary stream.
type parser interface {
	// unit takes a payload, which is valid during the call. An error is the
	// sink's; what cannot be read is told to the demuxer.
	unit(payload []byte, at unitTimes) error
	// lose forgets what was kept of payloads before: data was lost.
	lose()
}

// stream is one elementary stream of the program.
type stream struct {
	d        *Demuxer
	pid      uint16
	format   format
	number   int // of its track within the kind
	language string
	pes      assembly
	parse    parser // nil for sections

	track         *media.Track // nil until its configuration came
	discontinuity bool         // data was lost before the next packet
	newConfig     bool         // the next packet is the first of a changed track
	blind         bool         // pictures are left out since
	blindSince    time.Duration
}

// maxBlind is how long pictures are left out behind a loss while no key frame
// comes: a stream that has none, but refreshes its pictures piece by piece, has
// to be seen again.
const maxBlind = 5 * time.Second

func newStream(d *Demuxer, e *elementary) *stream {
	s := &stream{d: d, pid: e.pid, format: e.format, language: e.language}
	s.pes.limit = maxOtherPES
	if e.format.kind() == media.Video {
		s.pes.limit = maxVideoPES
	}
	switch e.format {
	case formatH264:
		s.parse = newPictures(s, media.H264)
	case formatHEVC:
		s.parse = newPictures(s, media.HEVC)
	case formatADTS:
		s.parse = &audio{s: s, framing: new(adts)}
	case formatLATM:
		s.parse = &audio{s: s, framing: new(latm)}
	case formatMPEGAudio:
		s.parse = &audio{s: s, framing: newMP3()}
	case formatAC3:
		s.parse = &audio{s: s, framing: newAC3()}
	case formatOpus:
		s.parse = &audio{s: s, framing: newOpus(e.descriptors)}
	case formatID3:
		s.parse = &tags{s: s}
		s.track = s.described(&media.Track{Kind: media.Data, Codec: media.ID3})
	case formatSCTE35:
		s.track = s.described(&media.Track{Kind: media.Data, Codec: media.SCTE35})
	}
	return s
}

// described fills in what the program says of a track.
func (s *stream) described(t *media.Track) *media.Track {
	t.ID, t.TimeScale, t.Language = media.TrackID(s.number), timeScale, s.language //nolint:gosec // below MaxTracksPerKind
	return t
}

// setTrack takes a track, the first or a changed one, and tells of it. One
// that says the same as before changes nothing.
func (s *stream) setTrack(t *media.Track) error {
	if s.track != nil && s.track.Codec == t.Codec && s.track.Audio == t.Audio && bytes.Equal(s.track.Config, t.Config) {
		return nil
	}
	s.newConfig = s.track != nil
	s.track = s.described(t)
	return s.d.tell()
}

// add takes the payload of a transport packet.
func (s *stream) add(p *packet) error {
	if p.start {
		if err := s.finish(); err != nil {
			return err
		}
		s.pes.open, s.pes.random = true, p.random
	}
	if !s.pes.open {
		return nil
	}
	done, err := s.pes.add(p.payload)
	if err != nil {
		s.d.spoiled(s, err)
		return nil
	}
	if done {
		return s.finish()
	}
	return nil
}

// finish hands the PES packet to the parser.
func (s *stream) finish() error {
	if !s.pes.open || s.parse == nil {
		return nil
	}
	defer s.pes.reset()
	if len(s.pes.buf) == 0 {
		return nil
	}
	if s.pes.want > len(s.pes.buf) {
		s.d.spoiled(s, errPESHeader)
		return nil
	}
	t, payload, err := readPES(s.pes.buf)
	if err != nil {
		s.d.spoiled(s, err)
		return nil
	}
	if s.pes.want > 0 { // what stands behind it is nobody's
		payload = payload[:max(0, len(payload)-(len(s.pes.buf)-s.pes.want))]
	}
	if len(payload) == 0 {
		return nil
	}
	return s.parse.unit(payload, s.unwrap(t))
}

// unwrap gives the times of a PES packet.
func (s *stream) unwrap(t times) unitTimes {
	u := unitTimes{known: t.hasPTS, random: s.pes.random}
	if !t.hasPTS {
		return u
	}
	if !t.hasDTS {
		t.dts = t.pts
	}
	var dts int64
	if s.format.kind() == media.Data {
		dts = s.d.clock.unwrap(t.dts)
	} else {
		dts = s.d.clock.media(t.dts)
	}
	u.dts = media.FromTicks(dts, timeScale)
	// A picture that is to be shown before it is decoded is shown as soon as it
	// can be.
	u.pts = max(u.dts, media.FromTicks(s.d.clock.unwrap(t.pts), timeScale))
	return u
}

// lose forgets what is unfinished: data was lost.
func (s *stream) lose() {
	s.pes.reset()
	s.discontinuity = true
	if s.parse != nil {
		s.parse.lose()
	}
}

// write completes a packet and passes it on. The payload is kept.
func (s *stream) write(p media.Packet) error {
	p.Track, p.Captured = s.track, s.d.now
	if s.undecodable(&p) {
		s.d.stats.Undecodable++
		return nil
	}
	if s.discontinuity {
		p.Flags |= media.Discontinuity
		s.discontinuity = false
	}
	if s.newConfig {
		p.Flags |= media.NewConfig
		s.newConfig = false
	}
	return s.d.sink.Packet(p)
}

// undecodable reports whether a picture needs another that was lost: one that
// stands behind a loss and before the next key frame. Players would show it
// broken, or not go on at all behind a discontinuity that does not begin with a
// key frame.
func (s *stream) undecodable(p *media.Packet) bool {
	switch {
	case !s.discontinuity || s.track.Kind != media.Video || p.Flags.Has(media.Key):
		s.blind = false
		return false
	case !s.blind:
		s.blind, s.blindSince = true, p.DTS
	}
	return p.DTS-s.blindSince < maxBlind
}

// copied is a copy of b from the demuxer's slab.
func (s *stream) copied(b []byte) []byte {
	c := s.d.slab.Alloc(len(b))
	copy(c, b)
	return c
}
