package stream

import (
	"time"

	"github.com/klive-media/klive/internal/media"
	"github.com/klive-media/klive/internal/pipeline"
)

func renditionOf(rd *rendition) pipeline.Rendition {
	return pipeline.Rendition{ID: rd.id, Source: rd}
}

// sameClock is how well a common wire clock must agree with arrival for
// sessions to be joined by it.
const sameClock = time.Second

// oneFrame is the offset above which a rendition's lateness is a finding, when
// the frame rate is not known.
const oneFrame = 40 * time.Millisecond

// joining is where a session's first packet goes.
type joining struct {
	at            time.Duration // stream time
	method        string        // how it was found
	discontinuity bool          // it continues what another session wrote
	finding       time.Duration // how much later than its clock it arrives, if above one frame
}

// joinAt finds the stream time of a session's first packet; Registry.mu is
// held.
//
// The first session of a broadcast begins it. The parallel sessions of a
// multi-bitrate encoder join by their common wire clock, where it agrees with
// arrival within a second. Everyone else joins by the wall clock, after what
// was already written.
func (b *broadcast) joinAt(s *session, wire time.Duration, arrived time.Time) joining {
	written := s.rendition.written()
	first := written == 0 && b.restored == 0
	arrival := max(arrived.Sub(b.start), 0)
	for _, rd := range b.renditions {
		o := rd.session
		if o == nil || o == s || !o.joined.Load() {
			if rd.written() > 0 {
				first = false
			}
			continue
		}
		first = false
		at := wire + time.Duration(o.offset.Load())
		if late := arrival - at; late.Abs() <= sameClock && at >= written {
			j := joining{at: max(at, 0), method: "wire-clock", discontinuity: written > 0}
			if late.Abs() > frameOf(s) {
				j.finding = late
			}
			return j
		}
	}
	if first && arrival <= sameClock {
		return joining{method: "first"}
	}
	return joining{at: max(arrival, written), method: "wall-clock", discontinuity: written > 0}
}

func frameOf(s *session) time.Duration {
	for _, t := range s.rendition.Tracks() {
		if t.Kind == media.Video && t.Video.FrameRate > 0 {
			return time.Duration(float64(time.Second) / t.Video.FrameRate)
		}
	}
	return oneFrame
}
