package ts

import (
	"errors"
	"time"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/media"
	"github.com/klive-media/klive/internal/media/codec"
)

// framing is how the frames of a kind of sound stand one behind the other.
type framing interface {
	// size is the size of the frame that b begins with; 0 when b is too short to
	// tell, negative when no frame begins here.
	size(b []byte) int
	// sync is the first place behind the beginning of b where a frame may begin;
	// len(b) when there is none.
	sync(b []byte) int
	// frame reads a whole frame. The payload is carved from slab; track is not
	// nil when the configuration changed. retains b: no.
	frame(b []byte, slab *media.Slab) (payload []byte, track *media.Track, err error)
}

var (
	errAudioSync = errors.New("ts: no sound begins where a frame should")
	errNoConfig  = errors.New("ts: the configuration of the sound has not come yet")
)

// audio reads a kind of sound whose frames follow each other without regard to
// PES packets. The time of a PES packet is that of the first frame that begins
// in it (13818-1 §2.4.3.7).
type audio struct {
	s       *stream
	framing framing
	rest    []byte        // the beginning of a frame; bounded by framing.size
	next    time.Duration // the time of the next frame, from the one before
	timed   bool          // next is set
	dead    bool          // a further track of a codec that is not carried
}

// lose forgets the beginning of a frame.
func (a *audio) lose() { a.rest = a.rest[:0] }

// unit takes a PES packet.
func (a *audio) unit(payload []byte, at unitTimes) error {
	if a.dead {
		return nil
	}
	b, begun := payload, 0
	if len(a.rest) > 0 {
		begun = len(a.rest)
		a.rest = append(a.rest, payload...)
		b = a.rest
	}
	for pos := 0; ; {
		size := 0
		if pos < len(b) {
			size = a.framing.size(b[pos:])
		}
		if size < 0 {
			a.s.d.stats.Corrupt++
			a.s.d.bad(errAudioSync)
			a.s.discontinuity = true
			pos += a.framing.sync(b[pos:])
			continue
		}
		if at.known && pos >= begun {
			a.next, a.timed, at.known = at.dts, true, false
		}
		if size == 0 || size > len(b)-pos {
			a.rest = append(a.rest[:0], b[pos:]...)
			return nil
		}
		if err := a.frame(b[pos : pos+size]); err != nil || a.dead {
			return err
		}
		pos += size
	}
}

// frame takes a whole frame.
func (a *audio) frame(b []byte) error {
	payload, track, err := a.framing.frame(b, a.s.d.slab)
	if errors.Is(err, errNoConfig) {
		a.s.d.stats.Waiting++
		return nil
	}
	if fault.ReasonOf(err) == fault.UnsupportedCodec {
		if a.s.number == 0 {
			return err
		}
		a.dead = true
	}
	if err != nil {
		a.s.d.stats.Corrupt++
		a.s.d.bad(err)
		a.s.discontinuity = true
		return nil
	}
	if track != nil {
		if err := a.s.setTrack(track); err != nil {
			return err
		}
	}
	t := a.s.track
	if !a.timed || t == nil || len(payload) == 0 {
		return nil
	}
	p := media.Packet{Flags: media.Key, DTS: a.next, PTS: a.next, Payload: payload}
	samples := t.Audio.FrameSamples
	if f := codec.FormatOf(t.Codec); f != nil && f.Samples != nil {
		samples = f.Samples(payload)
	}
	if rate := t.Audio.SampleRate; rate > 0 {
		p.Duration = media.FromTicks(int64(samples), uint32(rate)) //nolint:gosec // a sample rate of a codec's table
	}
	a.next += p.Duration
	return a.s.write(p)
}
