package rtmp

import (
	"time"

	"github.com/klive-media/klive/internal/media"
	"github.com/klive-media/klive/internal/media/codec/aac"
	"github.com/klive-media/klive/internal/media/codec/h264"
)

// wireTimeScale is RTMP's: milliseconds.
const wireTimeScale = 1000

// avcTrack makes a track of a sequence header's body, an
// AVCDecoderConfigurationRecord (ISO/IEC 14496-15 section 5.3.3.1), and
// returns the size of the NAL unit lengths in the frames. retains avcC: no.
func avcTrack(avcC []byte) (t *media.Track, lengthSize int, err error) {
	c, err := h264.ParseConfig(avcC)
	if err != nil {
		return nil, 0, err
	}
	if t, err = h264.Track(avcC); err != nil {
		return nil, 0, err
	}
	t.TimeScale = wireTimeScale
	return t, c.LengthSize, nil
}

// aacTrack makes a track of an AudioSpecificConfig (ISO/IEC 14496-3 section
// 1.6.2.1). retains asc: no.
func aacTrack(asc []byte) (*media.Track, error) {
	t, err := aac.Track(asc)
	if err != nil {
		return nil, err
	}
	t.TimeScale = wireTimeScale
	return t, nil
}

// frameDuration is how long one audio packet plays; 0 when not known.
func frameDuration(t *media.Track) time.Duration {
	if t.Audio.SampleRate == 0 {
		return 0
	}
	return media.FromTicks(int64(t.Audio.FrameSamples), uint32(t.Audio.SampleRate)) //nolint:gosec // at most 96000 by the standard
}
