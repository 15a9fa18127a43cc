package flv

import (
	"encoding/binary"

	"github.com/klive-media/klive/internal/fault"
)

const (
	fourCCSize = 4
	// modExLong in the size of a modifier says that 16 bits of size follow.
	modExLong = 0xff
	// modExNano is the modifier TimestampOffsetNano, whose data has 3 bytes.
	modExNano = 0
	nanoSize  = 3
	// maxModEx bounds the modifiers of a header; one is defined.
	maxModEx = 8
	// maxNano keeps an offset below the millisecond that it divides.
	maxNano = 999_999
)

// Layout says how tracks stand in the body of a message (Enhanced RTMP v2,
// AvMultitrackType).
type Layout uint8

// The layouts.
const (
	// NoTracks: the body is that of one track without a number.
	NoTracks Layout = iota
	OneTrack
	ManyTracks
	ManyCodecs
)

// tags is where a header's first byte leads: both kinds of header go on in
// the same way.
type tags struct {
	packet, multi PacketType
	fourCC        FourCC
	layout        Layout
	nano          uint32
}

// read reads modifiers, layout and FourCC, and returns what is behind them. ok
// is false when the header ends too early or is not one.
func (t *tags) read(b []byte) (rest []byte, ok bool) {
	for i := 0; t.packet == PacketModEx; i++ {
		if b, ok = t.modifier(b); !ok || i >= maxModEx {
			return nil, false
		}
	}
	if t.packet == t.multi {
		if len(b) == 0 || b[0]>>4 > 2 {
			return nil, false
		}
		t.layout, t.packet = OneTrack+Layout(b[0]>>4), PacketType(b[0]&0x0f)
		b = b[1:]
		if t.packet == t.multi || t.packet == PacketModEx {
			return nil, false
		}
		if t.layout == ManyCodecs {
			return b, true
		}
	}
	if len(b) < fourCCSize {
		return nil, false
	}
	t.fourCC = FourCC(binary.BigEndian.Uint32(b))
	return b[fourCCSize:], true
}

// modifier reads one ModEx: size, data, and a byte that says what it was and
// what comes next.
func (t *tags) modifier(b []byte) (rest []byte, ok bool) {
	if len(b) < 1 {
		return nil, false
	}
	size := int(b[0]) + 1
	b = b[1:]
	if size == modExLong+1 {
		if len(b) < 2 {
			return nil, false
		}
		size = int(b[0])<<8 | int(b[1]) + 1
		b = b[2:]
	}
	if len(b) < size+1 {
		return nil, false
	}
	data, next := b[:size], b[size]
	if next>>4 == modExNano && size >= nanoSize {
		t.nano = min(uint32(data[0])<<16|uint32(data[1])<<8|uint32(data[2]), maxNano)
	}
	t.packet = PacketType(next & 0x0f)
	return b[size+1:], true
}

// parseEnhancedVideo reads a header of Enhanced RTMP: 1 bit, frame type (3),
// packet type (4), modifiers, layout, FourCC.
func parseEnhancedVideo(b []byte) (Video, []byte, error) {
	t := tags{packet: PacketType(b[0] & 0x0f), multi: PacketMulti}
	rest, ok := t.read(b[1:])
	v := Video{Enhanced: true, Frame: FrameType(b[0] >> 4 & 7), Packet: t.packet, FourCC: t.fourCC, NanoOffset: t.nano, Layout: t.layout}
	if v.Frame == FrameCommand && v.Packet != PacketMetadata {
		return v, nil, nil // one byte follows, not a FourCC
	}
	if !ok {
		return v, nil, tooShort("video", len(b))
	}
	if v.Layout != NoTracks {
		return v, rest, nil
	}
	if rest, ok = v.readTime(v.FourCC, rest); !ok {
		return v, nil, tooShort("video", len(b))
	}
	return v, rest, nil
}

// readTime reads the composition time of the codecs that have one.
func (v *Video) readTime(f FourCC, b []byte) ([]byte, bool) {
	v.CompositionTime = 0
	if v.Packet != PacketFrames || f != FourCCHEVC && f != FourCCAVC {
		return b, true
	}
	if len(b) < 3 {
		return nil, false
	}
	v.CompositionTime = int24(b)
	return b[3:], true
}

// parseEnhancedAudio reads a header of Enhanced RTMP: sound format (4), packet
// type (4), modifiers, layout, FourCC.
func parseEnhancedAudio(b []byte) (Audio, []byte, error) {
	t := tags{packet: PacketType(b[0] & 0x0f), multi: AudioMulti}
	rest, ok := t.read(b[1:])
	a := Audio{Enhanced: true, Packet: t.packet, FourCC: t.fourCC, NanoOffset: t.nano, Layout: t.layout}
	if !ok {
		return a, nil, tooShort("audio", len(b))
	}
	return a, rest, nil
}

// Tracks walks the tracks in the body of a message. Its zero value has none.
type Tracks struct {
	rest   []byte
	layout Layout
	fourCC FourCC
}

// NewTracks makes a walk over a body with the layout of its header, and the
// FourCC that stands there. It keeps a view of body. A body without tracks is
// one of number 0.
func NewTracks(layout Layout, f FourCC, body []byte) Tracks {
	return Tracks{rest: body, layout: layout, fourCC: f}
}

// Track is one of the tracks of a message.
type Track struct {
	ID     uint8
	FourCC FourCC
	Body   []byte
}

// done marks a walk at its end.
const done Layout = 0xff

// Next reads the next track into t and reports whether there was one.
func (w *Tracks) Next(t *Track) (bool, error) {
	t.FourCC = w.fourCC
	switch w.layout {
	case done:
		return false, nil
	case NoTracks:
		t.ID, t.Body = 0, w.rest
		w.layout = done
		return true, nil
	case ManyCodecs:
		if len(w.rest) == 0 {
			return false, nil
		}
		if len(w.rest) < fourCCSize {
			return false, errTracks()
		}
		t.FourCC = FourCC(binary.BigEndian.Uint32(w.rest))
		w.rest = w.rest[fourCCSize:]
	case ManyTracks:
		if len(w.rest) == 0 {
			return false, nil
		}
	}
	if len(w.rest) == 0 {
		return false, errTracks()
	}
	t.ID, w.rest = w.rest[0], w.rest[1:]
	if w.layout == OneTrack {
		t.Body, w.layout = w.rest, done
		return true, nil
	}
	if len(w.rest) < 3 {
		return false, errTracks()
	}
	size := int(w.rest[0])<<16 | int(w.rest[1])<<8 | int(w.rest[2])
	w.rest = w.rest[3:]
	if size > len(w.rest) {
		return false, errTracks()
	}
	t.Body, w.rest = w.rest[:size:size], w.rest[size:]
	return true, nil
}

// VideoBody reads the composition time that stands in front of the frames of
// a track of the multitrack message v, and returns it with the frames behind.
func (t *Track) VideoBody(v Video) (Video, []byte, error) {
	if v.Layout == NoTracks {
		return v, t.Body, nil
	}
	v.FourCC = t.FourCC
	body, ok := v.readTime(t.FourCC, t.Body)
	if !ok {
		return v, nil, errTracks()
	}
	return v, body, nil
}

func errTracks() error {
	return fault.New(fault.BadMedia, "an RTMP multitrack message ends inside one of its tracks")
}

// AppendEnhancedVideo appends the Enhanced RTMP header of v to b; a layout
// other than NoTracks is followed by what AppendTrack appends, and so is the
// composition time then.
func AppendEnhancedVideo(b []byte, v Video) []byte {
	b = appendTags(b, enhancedVideo|byte(v.Frame)<<4, v.Packet, PacketMulti, v.NanoOffset, v.Layout, v.FourCC)
	if v.Layout == NoTracks {
		b = appendTime(b, v, v.FourCC)
	}
	return b
}

func appendTime(b []byte, v Video, f FourCC) []byte {
	if v.Packet != PacketFrames || f != FourCCHEVC && f != FourCCAVC {
		return b
	}
	t := v.CompositionTime
	return append(b, byte(t>>16), byte(t>>8), byte(t))
}

// AppendEnhancedAudio appends the Enhanced RTMP header of a to b.
func AppendEnhancedAudio(b []byte, a Audio) []byte {
	return appendTags(b, byte(audioExtended)<<4, a.Packet, AudioMulti, a.NanoOffset, a.Layout, a.FourCC)
}

// appendTags appends what both headers share; first is the first byte without
// its packet type.
func appendTags(b []byte, first byte, p, multi PacketType, nano uint32, layout Layout, f FourCC) []byte {
	outer := p
	if layout != NoTracks {
		outer = multi
	}
	if nano > 0 {
		b = append(b, first|byte(PacketModEx), nanoSize-1, byte(nano>>16), byte(nano>>8), byte(nano), modExNano<<4|byte(outer))
	} else {
		b = append(b, first|byte(outer))
	}
	if layout != NoTracks {
		b = append(b, byte(layout-OneTrack)<<4|byte(p))
	}
	if layout != ManyCodecs {
		b = binary.BigEndian.AppendUint32(b, uint32(f))
	}
	return b
}

// AppendVideoTrack appends a track to a multitrack message with the header v;
// f is its codec.
func AppendVideoTrack(b []byte, v Video, id uint8, f FourCC, body []byte) []byte {
	return appendTrack(b, v.Layout, id, f, append(appendTime(nil, v, f), body...))
}

// AppendAudioTrack appends a track to a multitrack message with the header a;
// f is its codec.
func AppendAudioTrack(b []byte, a Audio, id uint8, f FourCC, body []byte) []byte {
	return appendTrack(b, a.Layout, id, f, body)
}

func appendTrack(b []byte, layout Layout, id uint8, f FourCC, body []byte) []byte {
	if layout == ManyCodecs {
		b = binary.BigEndian.AppendUint32(b, uint32(f))
	}
	b = append(b, id)
	if layout != OneTrack {
		b = append(b, byte(len(body)>>16), byte(len(body)>>8), byte(len(body)))
	}
	return append(b, body...)
}
