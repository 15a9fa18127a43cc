package codec_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/media"
	"github.com/klive-media/klive/internal/media/codec"
	"github.com/klive-media/klive/internal/media/codec/clips"
)

func all(t testing.TB) []clips.Clip {
	cs, err := clips.All()
	require.NoError(t, err)
	return cs
}

// describe makes the track of a clip as a door does.
func describe(t testing.TB, c *clips.Clip) (*media.Track, int) {
	f := codec.FormatOf(c.Codec)
	require.NotNil(t, f)
	var track *media.Track
	size := 0
	if f.Track != nil {
		var err error
		track, size, err = f.Track(c.Config)
		require.NoError(t, err)
	}
	_, u, err := f.Sample(new(media.Slab), track, c.Samples[0].Payload, size)
	require.NoError(t, err)
	require.True(t, u.Config || f.IsComplete(track))
	if u.Config {
		track, err = f.Update(track, c.Samples[0].Payload, size)
		require.NoError(t, err)
	}
	require.True(t, f.IsComplete(track))
	return track, size
}

// TestClips holds what is read of each codec to what ffmpeg, which made the
// clips, says of them.
func TestClips(t *testing.T) {
	for _, c := range all(t) {
		t.Run(c.Name, func(t *testing.T) {
			track, size := describe(t, &c)
			require.Equal(t, c.Codec, track.Codec)
			require.Equal(t, c.Codec.Kind(), track.Kind)
			require.Equal(t, c.CodecString, track.CodecString)
			switch track.Kind {
			case media.Video:
				require.Equal(t, [2]int{160, 90}, [2]int{track.Video.Width, track.Video.Height})
				if track.Video.FrameRate > 0 {
					require.InDelta(t, 10, track.Video.FrameRate, 0.01)
				}
			case media.Audio:
				require.Equal(t, 48000, track.Audio.SampleRate)
				want := 2
				if c.Codec == media.EAC3 {
					want = 6
				}
				require.Equal(t, want, track.Audio.Channels)
			}
			f := codec.FormatOf(c.Codec)
			var slab media.Slab
			for i, s := range c.Samples {
				out, u, err := f.Sample(&slab, track, s.Payload, size)
				require.NoError(t, err)
				if !(c.Codec == media.HEVC && u.Config) { // repeats its parameter sets
					require.True(t, bytes.Equal(s.Payload, out), "a sample of a file is one already")
				}
				require.Equal(t, s.Key, u.Sync == codec.IsSync, "sample %d", i)
				if u.Config {
					same, err := f.Update(track, s.Payload, size)
					require.NoError(t, err)
					require.True(t, track == same, "sample %d", i)
				}
				if track.Kind == media.Audio {
					n := track.Audio.FrameSamples
					if f.Samples != nil {
						n = f.Samples(s.Payload)
					}
					if i < len(c.Samples)-1 { // the last is cut to the length of the clip
						require.EqualValues(t, s.Duration, int64(n)*int64(c.Scale)/48000, "sample %d", i)
					}
				}
			}
		})
	}
}

// TestConfigurations holds the configurations that are written to those that
// ffmpeg writes.
func TestConfigurations(t *testing.T) {
	for _, c := range all(t) {
		t.Run(c.Name, func(t *testing.T) {
			track, _ := describe(t, &c)
			want := c.Config
			switch c.Codec {
			case media.MP3:
				require.Empty(t, track.Config)
				return
			case media.HEVC: // ffmpeg says more of parallel decoding and less of the sub-layers
				want = append([]byte{}, want...)
				copy(want[13:16], track.Config[13:16])
				copy(want[19:22], track.Config[19:22])
			case media.AV1: // SVT-AV1's configuration does not fit its stream, which counts
				want = append(want[:6:6], c.Samples[0].Payload[2:12]...)
			}
			require.Equal(t, hex.EncodeToString(want[:min(len(want), 120)]), hex.EncodeToString(track.Config[:min(len(track.Config), 120)]))
			require.True(t, bytes.Equal(want, track.Config))
		})
	}
}

func TestSamplesAllocateNothing(t *testing.T) {
	for _, c := range all(t) {
		t.Run(c.Name, func(t *testing.T) {
			track, size := describe(t, &c)
			f := codec.FormatOf(c.Codec)
			var slab media.Slab
			require.Zero(t, testing.AllocsPerRun(20, func() {
				for _, s := range c.Samples {
					_, u, err := f.Sample(&slab, track, s.Payload, size)
					if err == nil && u.Config {
						_, err = f.Update(track, s.Payload, size)
					}
					if err != nil {
						t.Fatal(err)
					}
				}
			}))
		})
	}
}

func TestEveryCarriedCodecHasAFormat(t *testing.T) {
	for c := media.UnknownCodec; c < 100; c++ {
		info := c.Info()
		require.Equal(t, info.SampleEntry != "", codec.FormatOf(c) != nil, "%s", info.Name)
		if info.FourCC != "" {
			require.Equal(t, c, media.CodecByFourCC(binary.BigEndian.Uint32([]byte(info.FourCC))))
		}
	}
	require.Equal(t, media.UnknownCodec, media.CodecByFourCC(0))
}

// FuzzFormat gives any codec any configuration and any packet.
func FuzzFormat(f *testing.F) {
	for _, c := range all(f) {
		f.Add(uint8(c.Codec), c.Config, c.Samples[0].Payload, c.Samples[1].Payload)
	}
	f.Fuzz(func(t *testing.T, which uint8, config, first, second []byte) {
		form := codec.FormatOf(media.Codec(which))
		if form == nil {
			return
		}
		var track *media.Track
		size := 4
		if form.Track != nil {
			var err error
			if track, size, err = form.Track(config); err != nil {
				return
			}
			again, _, err := form.Track(track.Config)
			require.NoError(t, err, "what is kept of a configuration can be read")
			require.Equal(t, track.Config, again.Config)
		}
		var slab media.Slab
		for _, b := range [][]byte{first, second} {
			out, u, err := form.Sample(&slab, track, b, size)
			if err != nil {
				continue
			}
			require.LessOrEqual(t, len(out), 4*len(b)+4)
			if u.Config {
				n, err := form.Update(track, b, size)
				if err != nil {
					continue
				}
				track = n
				same, err := form.Update(track, b, size)
				require.NoError(t, err)
				require.True(t, track == same, "what was learned is known")
			}
			if form.Samples != nil {
				require.GreaterOrEqual(t, form.Samples(b), 0)
			}
		}
	})
}
