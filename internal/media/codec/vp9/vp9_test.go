package vp9

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/media"
)

// A key frame of 160x90 and an inter frame.
const (
	keyFrame = "\x82\x49\x83\x42\x00\x09\xf0\x05\x90"
	inter    = "\x86\x00"
	record   = "\x00\x1e\x82\x02\x02\x02\x00\x00"
)

func TestTrackGetsItsSizeFromTheFirstKeyFrame(t *testing.T) {
	for _, config := range []string{record, "\x01\x00\x00\x00" + record} {
		track, err := Track([]byte(config))
		require.NoError(t, err)
		require.Zero(t, track.Video.Width)
		require.Equal(t, "\x01\x00\x00\x00"+record, string(track.Config))
		same, err := Update(track, []byte(inter))
		require.NoError(t, err)
		require.True(t, track == same)
		full, err := Update(track, []byte(keyFrame))
		require.NoError(t, err)
		require.Equal(t, [2]int{160, 90}, [2]int{full.Video.Width, full.Video.Height})
		require.Equal(t, "vp09.00.30.08", full.CodecString, "the level is the sender's")
		same, err = Update(full, []byte(keyFrame))
		require.NoError(t, err)
		require.True(t, full == same)

		large := []byte(keyFrame)
		large[5], large[7] = 0x19, 0x15 // 416x346
		changed, err := Update(full, large)
		require.NoError(t, err)
		require.False(t, full.SameConfig(changed))
		require.Equal(t, "vp09.00.21.08", changed.CodecString)
	}
}

func TestHDRStaysWithTheConfiguration(t *testing.T) {
	track, err := Track([]byte("\x02\x1e\xa2\x09\x10\x09\x00\x00"))
	require.NoError(t, err)
	require.Equal(t, "vp09.02.30.10.01.09.16.09.00", track.CodecString)
	require.Equal(t, media.NewColor(9, 16, 9, false), track.Video.Color)
}

func TestParseFrame(t *testing.T) {
	for _, bad := range []string{"", "\x00", "\x82\x49\x83\x43\x00\x09\xf0\x05\x90", "\x82\x49\x83"} {
		_, err := ParseFrame([]byte(bad))
		require.Equal(t, fault.BadMedia, fault.ReasonOf(err), "%q", bad)
	}
	f, err := ParseFrame([]byte("\x88"))
	require.NoError(t, err)
	require.False(t, f.Key, "it shows an existing frame")
	_, err = Track([]byte(record[:7]))
	require.Equal(t, fault.BadMedia, fault.ReasonOf(err))
}

func FuzzFrame(f *testing.F) {
	f.Add([]byte(keyFrame))
	f.Add([]byte(inter))
	f.Fuzz(func(t *testing.T, b []byte) {
		track, err := Update(nil, b)
		if err != nil || track == nil {
			return
		}
		require.Positive(t, track.Video.Width)
		again, err := Track(track.Config)
		require.NoError(t, err)
		require.Equal(t, track.Config, again.Config)
		require.Equal(t, track.CodecString, again.CodecString)
	})
}
