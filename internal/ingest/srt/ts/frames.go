package ts

import (
	"bytes"
	"errors"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/media"
	"github.com/klive-media/klive/internal/media/codec/ac3"
	"github.com/klive-media/klive/internal/media/codec/mp3"
	"github.com/klive-media/klive/internal/media/codec/opus"
)

// described is a framing of sound whose frames describe themselves.
type described struct {
	first  byte // of every frame
	sizeOf func(b []byte) int
	update func(t *media.Track, frame []byte) (*media.Track, error)
	track  *media.Track // of the newest frame
}

// size implements framing.
func (d *described) size(b []byte) int { return d.sizeOf(b) }

// sync implements framing.
func (d *described) sync(b []byte) int {
	if n := bytes.IndexByte(b[1:], d.first); n >= 0 {
		return 1 + n
	}
	return len(b)
}

// frame implements framing.
func (d *described) frame(b []byte, slab *media.Slab) ([]byte, *media.Track, error) {
	t, err := d.update(d.track, b)
	if err != nil {
		return nil, nil, err
	}
	var changed *media.Track
	if t != d.track {
		d.track = t
		own := *t
		changed = &own // the stream numbers what it is given
	}
	payload := slab.Alloc(len(b))
	copy(payload, b)
	return payload, changed, nil
}

// newAC3 is the framing of AC-3 and E-AC-3 (ETSI TS 102 366).
func newAC3() framing { return &described{first: 0x0b, sizeOf: ac3Size, update: ac3.Update} }

// ac3Size is the size of the packet that b begins with: a frame, and those
// behind it that belong to it. A PES packet does not end inside of one.
func ac3Size(b []byte) int {
	if len(b) > 0 && b[0] != 0x0b || len(b) > 1 && b[1] != 0x77 {
		return -1
	}
	total := 0
	for {
		rest := b[min(total, len(b)):]
		if total > 0 && len(rest) == 0 {
			return total
		}
		if len(rest) < ac3.FrameHead {
			return 0
		}
		size, primary, ok := ac3.FrameSize(rest)
		switch {
		case !ok && total == 0:
			return -1
		case !ok, primary && total > 0:
			return total
		}
		if total += size; total > maxOtherPES {
			return -1
		}
	}
}

// newMP3 is the framing of MPEG audio (ISO/IEC 11172-3 §2.4), of which layer
// III is carried.
func newMP3() framing { return &described{first: 0xff, sizeOf: mp3Size, update: mp3Update} }

// mp3Rates are the bit rates of layer III in kbit/s by bitrate_index, of
// MPEG-1 and of the lower sample rates (11172-3 §2.4.2.3, 13818-3 §2.4.2.3).
var mp3Rates = [2][15]int{
	{0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320},
	{0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160},
}

// mp3Head is the size of the header of a frame.
const mp3Head = 4

// layerTwo reports whether b begins with the header of a frame of layer II.
func layerTwo(b []byte) bool { return b[0] == 0xff && b[1]&0xe6 == 0xe4 }

// mp3Size is the size of the frame that b begins with; of one of layer II only
// the header, which is enough to refuse it.
func mp3Size(b []byte) int {
	switch {
	case len(b) > 0 && b[0] != 0xff, len(b) > 1 && b[1]&0xe0 != 0xe0:
		return -1
	case len(b) < mp3Head:
		return 0
	case layerTwo(b):
		return mp3Head
	}
	h, err := mp3.ParseHeader(b)
	if err != nil {
		return -1
	}
	table := 1
	if h.MPEG1 {
		table = 0
	}
	rate := mp3Rates[table][b[2]>>4] // 15 is refused with the header
	if rate == 0 {
		return -1 // a free format, whose frames do not tell their size
	}
	return h.Samples/8*rate*1000/h.SampleRate + int(b[2]>>1&1)
}

func mp3Update(t *media.Track, frame []byte) (*media.Track, error) {
	if layerTwo(frame) {
		return nil, fault.New(fault.UnsupportedCodec, "the audio codec MPEG audio layer II (MP2) is not supported over SRT; set the encoder to AAC")
	}
	return mp3.Update(t, frame)
}

// opusFrames reads Opus behind control headers, as Xiph's "Opus in MPEG-TS"
// puts it.
type opusFrames struct {
	track  *media.Track // nil when it cannot be carried, for reason
	reason error
	told   bool // the track is in force
}

var (
	errOpusLayout = errors.New("ts: the channels of the Opus sound are told in a way that is not read")
	errOpusLength = errors.New("ts: an Opus control header is longer than its unit")
)

// opusLayouts are stream count, coupled count and mapping of 1 to 8 channels
// in Vorbis order (RFC 7845 §5.1.1.2).
var opusLayouts = [...][]byte{
	3: {2, 1, 0, 2, 1},
	4: {2, 2, 0, 1, 2, 3},
	5: {3, 2, 0, 4, 1, 2, 3},
	6: {4, 2, 0, 4, 1, 2, 3, 5},
	7: {4, 3, 0, 4, 1, 2, 3, 5, 6},
	8: {5, 3, 0, 6, 1, 2, 3, 4, 5, 7},
}

// tagOpus is the extension descriptor that tells the channels.
const tagOpus = 0x80

// newOpus makes the framing of an elementary stream with these descriptors.
func newOpus(descriptors []byte) framing {
	d := descriptor(descriptors, tagExtension)
	if len(d) < 2 || d[0] != tagOpus || int(d[1]) >= len(opusLayouts) || d[1] == 0 {
		return &opusFrames{reason: errOpusLayout}
	}
	c := opus.Config{Channels: int(d[1]), InputSampleRate: opus.SampleRate}
	if layout := opusLayouts[d[1]]; layout != nil {
		c.Family, c.Mapping = 1, layout
	}
	t, err := opus.Track(c.Append(nil))
	return &opusFrames{track: t, reason: err}
}

// head reads a control header: its size, and that of the packet behind it.
func (*opusFrames) head(b []byte) (head, size int, ok bool) {
	flags := b[1]
	head = 2
	for {
		if head >= len(b) {
			return 0, 0, false
		}
		n := int(b[head])
		size += n
		head++
		if n != 255 {
			break
		}
		if size > maxOtherPES {
			return 0, 0, false
		}
	}
	for _, trim := range [...]byte{0x10, 0x08} {
		if flags&trim != 0 {
			head += 2
		}
	}
	if flags&0x04 != 0 { // control_extension
		if head >= len(b) {
			return 0, 0, false
		}
		head += 1 + int(b[head])
	}
	return head, size, true
}

// size implements framing.
func (o *opusFrames) size(b []byte) int {
	if len(b) > 0 && b[0] != 0x7f || len(b) > 1 && b[1]&0xe0 != 0xe0 {
		return -1
	}
	if len(b) < 3 {
		return 0
	}
	head, size, ok := o.head(b)
	if !ok {
		return 0
	}
	return head + size
}

// sync implements framing.
func (*opusFrames) sync(b []byte) int {
	if n := bytes.IndexByte(b[1:], 0x7f); n >= 0 {
		return 1 + n
	}
	return len(b)
}

// frame implements framing.
func (o *opusFrames) frame(b []byte, slab *media.Slab) ([]byte, *media.Track, error) {
	if o.track == nil {
		return nil, nil, o.reason
	}
	head, _, ok := o.head(b)
	if !ok || head >= len(b) {
		return nil, nil, errOpusLength
	}
	body := b[head:]
	samples := opus.Samples(body)
	if samples == 0 {
		return nil, nil, errOpusLength
	}
	payload := slab.Alloc(len(body))
	copy(payload, body)
	if o.told {
		return payload, nil, nil
	}
	o.told = true
	t := *o.track
	t.Audio.FrameSamples = samples
	return payload, &t, nil
}
