package av1

import (
	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/media"
)

// Info is what the units of a temporal unit tell.
type Info struct {
	// Frames is the number of frame headers; 0 means that there is no picture.
	Frames int
	// Key: decoding can start here: the first frame is a key frame that is shown.
	Key bool
	// Sequence: there was a sequence header, see Update.
	Sequence bool
}

// NormalizePayload makes of a temporal unit what a media.Packet holds: its
// units without temporal delimiters and padding (§2.4 of the file format
// binding). When what is to stay stands together the result is that part of
// payload and nothing is copied; else it is carved from slab. payload is not
// written. Errors are fault.BadMedia.
func NormalizePayload(slab *media.Slab, payload []byte) ([]byte, Info, error) {
	var info Info
	keep, from, to := 0, 0, 0
	s := scan(payload)
	for s.next() {
		k := s.kind()
		if k == OBUTemporalDelimiter || k == OBUPadding {
			continue
		}
		to = len(payload) - len(s.rest)
		if keep == 0 {
			from = to - len(s.whole)
		}
		keep += len(s.whole)
		switch k {
		case OBUSequenceHeader:
			info.Sequence = true
		case OBUFrameHeader, OBUFrame:
			if info.Frames++; info.Frames == 1 {
				info.Key = isKey(s.body)
			}
		}
	}
	if s.err != nil {
		return nil, Info{}, fault.New(fault.BadMedia, "an AV1 packet cannot be read").Because(s.err)
	}
	if keep == to-from {
		return payload[from:to:to], info, nil
	}
	out := slab.Alloc(keep)[:0]
	for s = scan(payload); s.next(); {
		if k := s.kind(); k != OBUTemporalDelimiter && k != OBUPadding {
			out = append(out, s.whole...)
		}
	}
	return out, info, nil
}

// isKey reads the first bits of a frame header (§5.9.2): show_existing_frame
// 0, frame_type KEY_FRAME, show_frame 1. Streams of reduced still pictures
// have no such bits, and are not live.
func isKey(header []byte) bool { return len(header) > 0 && header[0]>>4 == 0b0001 }
