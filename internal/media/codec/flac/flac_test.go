package flac

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/fault"
)

// 48 kHz, stereo, 16 bits, blocks of 4608 samples.
var info = "\x12\x00\x12\x00\x00\x00\x00\x00\x00\x00\x0b\xb8\x02\xf0\x00\x00\x00\x00" + strings.Repeat("\x00", 16)

var configCases = []struct {
	name, in string
	bad      bool
}{
	{name: "the block alone", in: info},
	{name: "behind its head", in: "\x80\x00\x00\x22" + info},
	{name: "with other blocks behind", in: "\x00\x00\x00\x22" + info + "\x84\x00\x00\x01v"},
	{name: "a file", in: "fLaC\x80\x00\x00\x22" + info},
	{name: "dfLa", in: "\x00\x00\x00\x00\x80\x00\x00\x22" + info},
	{name: "nothing", bad: true},
	{name: "cut", in: "fLaC\x80\x00\x00\x22" + info[:33], bad: true},
	{name: "another block first", in: "fLaC\x84\x00\x00\x22" + info, bad: true},
	{name: "no sample rate", in: strings.Repeat("\x00", 34), bad: true},
}

func TestTrack(t *testing.T) {
	for _, tc := range configCases {
		t.Run(tc.name, func(t *testing.T) {
			track, err := Track([]byte(tc.in))
			require.Equal(t, tc.bad, fault.ReasonOf(err) == fault.BadMedia)
			if !tc.bad {
				require.Equal(t, "\x00\x00\x00\x00\x80\x00\x00\x22"+info, string(track.Config))
				require.Equal(t, 48000, track.Audio.SampleRate)
				require.Equal(t, 2, track.Audio.Channels)
				require.Equal(t, 4608, track.Audio.FrameSamples)
			}
		})
	}
}

func TestSamples(t *testing.T) {
	for in, want := range map[string]int{
		"":                                     0,
		"\xff\xf8\x10\x00\x00":                 192,
		"\xff\xf8\x50\x00\x00":                 4608,
		"\xff\xf8\xc0\x00\x00":                 4096,
		"\xff\xf8\x60\x00\x05\x1f":             32,
		"\xff\xf8\x70\x00\xc4\x80\x01\x00":     257,
		"\xff\xf8\x70\x00\xc4\x80\x01":         0, // cut
		"\xff\xf8\x00\x00\x00":                 0, // reserved
		"\x00\xf8\x10\x00\x00":                 0,
		"\xff\xf9\x70\x00\xfe\x80\x80\x80\x80": 0,
	} {
		require.Equal(t, want, Samples([]byte(in)), "%x", in)
	}
}

func FuzzConfig(f *testing.F) {
	for _, tc := range configCases {
		f.Add([]byte(tc.in))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		require.GreaterOrEqual(t, Samples(b), 0)
		c, err := ParseConfig(b)
		if err != nil {
			return
		}
		again, err := ParseConfig(c.Append(nil))
		require.NoError(t, err)
		require.Equal(t, c, again)
	})
}
