package opus

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/fault"
)

const (
	head     = "OpusHead\x01\x02\x38\x01\x80\xbb\x00\x00\x00\x00\x00"
	box      = "\x00\x02\x01\x38\x00\x00\xbb\x80\x00\x00\x00"
	surround = "OpusHead\x01\x06\x38\x01\x80\xbb\x00\x00\x00\x00\x01\x04\x02\x00\x04\x01\x02\x03\x05"
)

var configCases = []struct {
	name, in, box string
	channels      int
}{
	{"identification header", head, box, 2},
	{"dOps", box, box, 2},
	{"5.1", surround, "\x00\x06\x01\x38\x00\x00\xbb\x80\x00\x00\x01\x04\x02\x00\x04\x01\x02\x03\x05", 6},
	{"nothing", "", "", 0},
	{"three channels without a mapping", "\x00\x03\x01\x38\x00\x00\xbb\x80\x00\x00\x00", "", 0},
	{"cut in the mapping", surround[:23], "", 0},
	{"more coupled than streams", "\x00\x02\x01\x38\x00\x00\xbb\x80\x00\x00\x01\x01\x02\x00\x01", "", 0},
	{"version 16", "OpusHead\x10\x02\x38\x01\x80\xbb\x00\x00\x00\x00\x00", "", 0},
	{"dOps of version 1", "\x01\x02\x01\x38\x00\x00\xbb\x80\x00\x00\x00", "", 0},
}

func TestTrack(t *testing.T) {
	for _, tc := range configCases {
		t.Run(tc.name, func(t *testing.T) {
			track, err := Track([]byte(tc.in))
			if tc.box == "" {
				require.Equal(t, fault.BadMedia, fault.ReasonOf(err))
				return
			}
			require.NoError(t, err)
			require.Equal(t, tc.box, string(track.Config))
			require.Equal(t, tc.channels, track.Audio.Channels)
		})
	}
}

func TestSamples(t *testing.T) {
	for in, want := range map[string]int{
		"":         0,
		"\x00":     480,  // SILK, 10 ms
		"\x18":     2880, // SILK, 60 ms
		"\x19":     5760, // two of them
		"\x60":     480,  // hybrid, 10 ms
		"\x68":     960,  // hybrid, 20 ms
		"\x80":     120,  // CELT, 2.5 ms
		"\xfc":     960,  // CELT, 20 ms, stereo
		"\xff\x03": 3 * 960,
		"\xff":     0, // the count is missing
		"\xff\x07": 0, // 140 ms
		"\x83\x30": 48 * 120,
	} {
		require.Equal(t, want, Samples([]byte(in)), "%x", in)
	}
}

func FuzzConfig(f *testing.F) {
	for _, tc := range configCases {
		f.Add([]byte(tc.in))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := ParseConfig(b)
		if err != nil {
			return
		}
		again, err := ParseConfig(c.Append(nil))
		require.NoError(t, err)
		require.Equal(t, c, again)
	})
}
