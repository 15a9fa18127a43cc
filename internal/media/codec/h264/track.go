package h264

import (
	"fmt"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/media"
)

// CodecString is the RFC 6381 name of a stream with this parameter set, such
// as "avc1.64001f" (14496-15 annex E).
func (s *SPS) CodecString() string {
	return fmt.Sprintf("avc1.%02x%02x%02x", s.Profile, s.Flags, s.Level)
}

// Track describes a stream with this configuration record. Packets of the
// track carry 4-byte lengths, so its Config says 4, whatever config says. ID,
// TimeScale and Language are left to the caller; config is not kept. Errors
// are fault.BadMedia.
func Track(config []byte) (*media.Track, error) {
	c, err := ParseConfig(config)
	if err != nil {
		return nil, err
	}
	c.LengthSize = 4
	own, err := c.Append(nil)
	if err != nil {
		return nil, err
	}
	if len(c.PPS) == 0 {
		return nil, fault.New(fault.BadMedia, "the H.264 configuration holds no picture parameter set (PPS); restart the encoder")
	}
	s, err := ParseSPS(c.SPS[0])
	if err != nil {
		return nil, err
	}
	return &media.Track{
		Kind: media.Video, Codec: media.H264, Config: own, CodecString: s.CodecString(),
		Video: media.VideoInfo{
			Width: s.Width, Height: s.Height, SARNum: s.SARNum, SARDen: s.SARDen, FrameRate: s.FrameRate,
		},
	}, nil
}
