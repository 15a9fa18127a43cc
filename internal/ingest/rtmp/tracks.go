package rtmp

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	"github.com/bluenviron/mediacommon/v2/pkg/codecs/h264"
	"github.com/bluenviron/mediacommon/v2/pkg/codecs/mpeg4audio"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/media"
)

// wireTimeScale is RTMP's: milliseconds.
const wireTimeScale = 1000

// Bounds of a codec configuration.
const (
	maxConfig    = 64 << 10
	maxDimension = 16384 // pixels; H.264 level 6.2 ends at 16888
)

// avcTrack makes a track of an AVCDecoderConfigurationRecord (ISO/IEC 14496-15
// section 5.3.3.1) and returns the size of the NAL unit lengths that it
// announces. The track's own configuration says 4, as packets hold 4. retains
// avcC: no.
func avcTrack(avcC []byte) (*media.Track, int, error) {
	c, err := parseAVCC(avcC)
	if err != nil {
		return nil, 0, err
	}
	var sps h264.SPS
	if err := sps.Unmarshal(c.sps[0]); err != nil {
		return nil, 0, badAVCC("its sequence parameter set cannot be read").Because(err)
	}
	w, h := sps.Width(), sps.Height()
	if w < 1 || h < 1 || w > maxDimension || h > maxDimension {
		return nil, 0, badAVCC("the picture would be %d by %d pixels", w, h)
	}
	t := &media.Track{
		Kind: media.Video, Codec: media.H264, TimeScale: wireTimeScale,
		Config:      bytes.Clone(avcC),
		CodecString: fmt.Sprintf("avc1.%02x%02x%02x", c.sps[0][1], c.sps[0][2], c.sps[0][3]),
		Video:       media.VideoInfo{Width: w, Height: h},
	}
	t.Config[4] |= nalLengthSize - 1
	if fps := sps.FPS(); fps > 0 && fps <= maxFrameRate {
		t.Video.FrameRate = fps
	}
	if sps.VUI != nil {
		t.Video.SARNum, t.Video.SARDen = sampleAspect(sps.VUI)
	}
	return t, c.lengthSize, nil
}

// aspects are the sample aspect ratios of H.264 table E-1.
var aspects = [...][2]int{
	{}, {1, 1}, {12, 11}, {10, 11}, {16, 11}, {40, 33}, {24, 11}, {20, 11}, {32, 11}, {80, 33}, {18, 11}, {15, 11},
	{64, 33}, {160, 99}, {4, 3}, {3, 2}, {2, 1},
}

// extendedSAR in aspect_ratio_idc says that numerator and denominator follow.
const extendedSAR = 255

func sampleAspect(v *h264.SPS_VUI) (num, den int) {
	switch idc := int(v.AspectRatioIdc); {
	case !v.AspectRatioInfoPresentFlag:
	case idc == extendedSAR:
		return int(v.SarWidth), int(v.SarHeight)
	case idc < len(aspects):
		return aspects[idc][0], aspects[idc][1]
	}
	return 0, 0
}

// avcConfig is what stands in an avcC; the parameter sets are views of it.
type avcConfig struct {
	lengthSize int
	sps, pps   [][]byte
}

func badAVCC(format string, args ...any) *fault.Error {
	return fault.New(fault.BadMedia, "the H.264 configuration of the encoder cannot be used: %s", fmt.Sprintf(format, args...))
}

func parseAVCC(b []byte) (avcConfig, error) {
	var c avcConfig
	switch {
	case len(b) > maxConfig:
		return c, badAVCC("it has %d bytes", len(b))
	case len(b) < 7:
		return c, badAVCC("it has only %d bytes", len(b))
	case b[0] != 1:
		return c, badAVCC("it has version %d instead of 1", b[0])
	}
	c.lengthSize = int(b[4]&3) + 1
	if c.lengthSize == 3 {
		return c, badAVCC("its NAL unit lengths have 3 bytes")
	}
	rest := b[6:]
	var ok bool
	if c.sps, rest, ok = parameterSets(rest, int(b[5]&0x1f)); !ok || len(c.sps) == 0 || len(rest) == 0 {
		return c, badAVCC("it ends before its sequence parameter sets")
	}
	if c.pps, _, ok = parameterSets(rest[1:], int(rest[0])); !ok || len(c.pps) == 0 {
		return c, badAVCC("it ends before its picture parameter sets")
	}
	if len(c.sps[0]) < 4 {
		return c, badAVCC("its sequence parameter set is cut off")
	}
	return c, nil
}

// parameterSets cuts n parameter sets with 16-bit lengths off b.
func parameterSets(b []byte, n int) (sets [][]byte, rest []byte, ok bool) {
	for range n {
		set, after, ok := nextNAL(b, 2)
		if !ok {
			return nil, nil, false
		}
		b = after
		if len(set) > 0 {
			sets = append(sets, set)
		}
	}
	return sets, b, true
}

// sameParameterSets reports whether an avcC already holds the parameter sets.
func sameParameterSets(avcC []byte, sps, pps [][]byte) bool {
	c, err := parseAVCC(avcC)
	if err != nil {
		return false
	}
	return holds(c.sps, sps) && holds(c.pps, pps)
}

func holds(all, some [][]byte) bool {
	for _, s := range some {
		if !slices.ContainsFunc(all, func(a []byte) bool { return bytes.Equal(a, s) }) {
			return false
		}
	}
	return true
}

// buildAVCC makes an avcC of parameter sets.
func buildAVCC(sps, pps [][]byte) ([]byte, error) {
	if len(sps) > 0x1f || len(pps) > 0xff || len(sps[0]) < 4 {
		return nil, badAVCC("a frame holds %d sequence and %d picture parameter sets", len(sps), len(pps))
	}
	first := sps[0]
	b := []byte{1, first[1], first[2], first[3], 0xfc | nalLengthSize - 1, 0xe0 | byte(len(sps))}
	var ok bool
	if b, ok = appendParameterSets(b, sps); ok {
		b, ok = appendParameterSets(append(b, byte(len(pps))), pps)
	}
	if !ok {
		return nil, badAVCC("a parameter set is too long")
	}
	switch first[1] {
	case 66, 77, 88: // baseline, main, extended
		return b, nil
	}
	var s h264.SPS
	if err := s.Unmarshal(first); err != nil {
		return nil, badAVCC("its sequence parameter set cannot be read").Because(err)
	}
	return append(b, 0xfc|byte(s.ChromaFormatIdc), 0xf8|byte(s.BitDepthLumaMinus8), 0xf8|byte(s.BitDepthChromaMinus8), 0), nil //nolint:gosec // 2 and 3 bit fields
}

func appendParameterSets(b []byte, sets [][]byte) ([]byte, bool) {
	for _, s := range sets {
		if len(s) > 0xffff {
			return nil, false
		}
		b = append(append(b, byte(len(s)>>8), byte(len(s))), s...)
	}
	return b, true
}

// aacTrack makes a track of an AudioSpecificConfig (ISO/IEC 14496-3 section
// 1.6.2.1). retains asc: no.
func aacTrack(asc []byte) (*media.Track, error) {
	var c mpeg4audio.AudioSpecificConfig
	if len(asc) > maxConfig {
		return nil, fault.New(fault.BadMedia, "the AAC configuration of the encoder has %d bytes", len(asc))
	}
	if err := c.Unmarshal(asc); err != nil {
		return nil, fault.New(fault.BadMedia, "the AAC configuration of the encoder cannot be read").Because(err)
	}
	t := &media.Track{
		Kind: media.Audio, Codec: media.AAC, TimeScale: wireTimeScale,
		Config:      bytes.Clone(asc),
		CodecString: fmt.Sprintf("mp4a.40.%d", asc[0]>>3),
		Audio:       media.AudioInfo{SampleRate: c.SampleRate, Channels: channels(c.ChannelConfig), FrameSamples: 1024},
	}
	if c.FrameLengthFlag {
		t.Audio.FrameSamples = 960
	}
	return t, nil
}

// channels is the number of channels of a channel configuration; 0, where the
// frames say it, is taken for stereo.
func channels(config uint8) int {
	switch {
	case config == 0:
		return 2
	case config == 7:
		return 8
	}
	return int(config)
}

// frameDuration is how long one audio packet plays; 0 when not known.
func frameDuration(t *media.Track) time.Duration {
	if t.Audio.SampleRate == 0 {
		return 0
	}
	return media.FromTicks(int64(t.Audio.FrameSamples), uint32(t.Audio.SampleRate)) //nolint:gosec // at most 96000 by the standard
}
