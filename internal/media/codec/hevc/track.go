package hevc

import (
	"fmt"
	"math/bits"
	"strings"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/media"
)

// CodecString is the RFC 6381 name of a stream with this parameter set, such
// as "hvc1.1.6.L93.B0" (14496-15 annex E.3).
func (s *SPS) CodecString() string {
	p := &s.Profile
	tier := byte('L')
	if p.HighTier {
		tier = 'H'
	}
	var b strings.Builder
	b.WriteString("hvc1.")
	if p.Space > 0 {
		b.WriteByte('A' + p.Space - 1)
	}
	fmt.Fprintf(&b, "%d.%X.%c%d", p.IDC, bits.Reverse32(p.Compatibility), tier, p.Level)
	for k := p.Constraints; k&(1<<48-1) != 0; k <<= 8 { // trailing bytes of zero are left out
		fmt.Fprintf(&b, ".%X", byte(k>>40))
	}
	return b.String()
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
	for _, missing := range [...]struct {
		sets [][]byte
		name string
	}{{c.VPS, "video parameter set (VPS)"}, {c.PPS, "picture parameter set (PPS)"}} {
		if len(missing.sets) == 0 {
			return nil, fault.New(fault.BadMedia, "the HEVC configuration holds no %s; restart the encoder", missing.name)
		}
	}
	s, err := ParseSPS(c.SPS[0])
	if err != nil {
		return nil, err
	}
	return &media.Track{
		Kind: media.Video, Codec: media.HEVC, Config: own, CodecString: s.CodecString(),
		Video: media.VideoInfo{
			Width: s.Width, Height: s.Height, SARNum: s.SARNum, SARDen: s.SARDen, FrameRate: s.FrameRate, Color: s.Color,
		},
	}, nil
}

// TemporalLayers is how many temporal sub-layers a configuration record
// announces; 0 when it does not say.
func TemporalLayers(config []byte) int {
	if len(config) < configHead {
		return 0
	}
	return int(config[21] >> 3 & 7)
}
