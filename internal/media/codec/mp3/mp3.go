// Package mp3 reads the frame headers of MPEG audio layer III (ISO/IEC 11172-3
// §2.4.1.3, 13818-3).
//
// Update is the function to read first: MP3 has no configuration, its tracks
// are made of frames.
package mp3

import (
	"errors"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/media"
)

// The RFC 6381 names of MPEG-1 audio and of the lower sample rates of MPEG-2;
// their numbers are the object types of esds.
const (
	CodecString     = "mp4a.6B"
	CodecStringHalf = "mp4a.69"
)

const headSize = 4

var errHeader = errors.New("mp3: this is not the header of a layer III frame")

// sampleRates of MPEG-1 by sampling_frequency; MPEG-2 has half, MPEG-2.5 a
// quarter.
var sampleRates = [3]int{44100, 48000, 32000}

// Header is what is read of a frame header.
type Header struct {
	SampleRate int // Hz
	Channels   int
	Samples    int  // of the frame, for each channel
	MPEG1      bool // not of the lower sample rates
}

// ParseHeader reads the header of a frame. It allocates nothing and does not
// keep b. Errors are fault.BadMedia.
func ParseHeader(b []byte) (Header, error) {
	if len(b) < headSize || b[0] != 0xff || b[1]&0xe0 != 0xe0 {
		return Header{}, bad()
	}
	version, layer, rate := b[1]>>3&3, b[1]>>1&3, int(b[2]>>2&3)
	if version == 1 || layer != 1 || rate > 2 || b[2]>>4 == 15 {
		return Header{}, bad()
	}
	h := Header{SampleRate: sampleRates[rate], Channels: 2, Samples: 1152, MPEG1: version == 3}
	if b[3]>>6 == 3 {
		h.Channels = 1
	}
	if !h.MPEG1 {
		h.Samples = 576
		h.SampleRate >>= 1
		if version == 0 {
			h.SampleRate >>= 1
		}
	}
	return h, nil
}

func bad() error {
	return fault.New(fault.BadMedia, "an MP3 frame cannot be read; set the encoder's audio to MP3 (layer III) or AAC").Because(errHeader)
}

// Update describes a stream by one of its frames. When t says the same, t
// itself is returned, else another track. t may be nil. frame is not kept.
// Errors are fault.BadMedia.
func Update(t *media.Track, frame []byte) (*media.Track, error) {
	h, err := ParseHeader(frame)
	if err != nil {
		return nil, err
	}
	a := media.AudioInfo{SampleRate: h.SampleRate, Channels: h.Channels, FrameSamples: h.Samples}
	if t != nil && t.Audio == a {
		return t, nil
	}
	n := &media.Track{Kind: media.Audio, Codec: media.MP3}
	if t != nil {
		*n = *t
	}
	n.Audio, n.CodecString = a, CodecString
	if !h.MPEG1 {
		n.CodecString = CodecStringHalf
	}
	return n, nil
}
