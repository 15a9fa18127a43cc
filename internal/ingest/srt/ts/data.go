package ts

import (
	"time"

	"github.com/klive-media/klive/internal/media"
)

// tags reads timed ID3 tags in PES packets.
type tags struct{ s *stream }

func (t *tags) lose() {}

// unit takes a PES packet, which is one packet of the track whatever it holds.
func (t *tags) unit(payload []byte, at unitTimes) error {
	if !at.known {
		at.dts = t.s.d.mediaTime()
		at.pts = at.dts
	}
	return t.s.write(media.Packet{Flags: media.Key, DTS: at.dts, PTS: at.pts, Payload: t.s.copied(payload)})
}

// section takes a section of a stream without PES: splice information, which
// has no time of its own but that of where it stands.
func (s *stream) section(b []byte) error {
	if s.format != formatSCTE35 || b[0] != tableSplice {
		return nil
	}
	if sectionCRC(b) != 0 {
		s.d.stats.Corrupt++
		s.d.bad(errTableCRC)
		return nil
	}
	at := s.d.mediaTime()
	return s.write(media.Packet{Flags: media.Key, DTS: at, PTS: at, Payload: s.copied(b)})
}

// mediaTime is that of the newest picture or sound.
func (d *Demuxer) mediaTime() time.Duration { return media.FromTicks(d.clock.last, timeScale) }
