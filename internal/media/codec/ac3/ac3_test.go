package ac3

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/media"
	"github.com/klive-media/klive/internal/media/codec/clips"
)

// packets are the first ones of the clips.
func packets(t testing.TB) (plain, enhanced []byte) {
	cs, err := clips.All()
	require.NoError(t, err)
	for _, c := range cs {
		switch c.Codec {
		case media.AC3:
			plain = c.Samples[0].Payload
		case media.EAC3:
			enhanced = c.Samples[0].Payload
		}
	}
	return plain, enhanced
}

func TestUpdate(t *testing.T) {
	plain, enhanced := packets(t)
	a, err := Update(nil, plain)
	require.NoError(t, err)
	require.Equal(t, media.AC3, a.Codec)
	require.Equal(t, media.AudioInfo{SampleRate: 48000, Channels: 2, FrameSamples: 1536}, a.Audio)
	b, err := Update(a, enhanced)
	require.NoError(t, err)
	require.Equal(t, media.EAC3, b.Codec)
	require.Equal(t, 6, b.Audio.Channels)
	require.False(t, a.SameConfig(b))

	two := append(append([]byte{}, plain...), plain...)
	s, err := Parse(two)
	require.NoError(t, err)
	require.Equal(t, 2*FrameSamples, s.Samples)
	for _, bad := range [][]byte{nil, plain[:7], plain[1:], make([]byte, 100)} {
		_, err := Update(a, bad)
		require.Equal(t, fault.BadMedia, fault.ReasonOf(err))
	}
}

// TestDependentSubstream adds back channels to 5.1 as Dolby Digital Plus does
// for 7.1.
func TestDependentSubstream(t *testing.T) {
	_, enhanced := packets(t)
	dependent := make([]byte, 16)
	copy(dependent, "\x0b\x77\x40\x07") // dependent, substream 0, 16 bytes
	w := []byte{0b00_11_010_0, 0b10000_000, 0b00_0_1_0000, 0b0010_0000, 0b0000_0000}
	// 48 kHz, 6 blocks, 2/0, no LFE; bsid 16, dialnorm 0, no compr; chanmape, Lrs/Rrs
	copy(dependent[4:], w)
	s, err := Parse(append(append([]byte{}, enhanced...), dependent...))
	require.NoError(t, err)
	require.Equal(t, 8, s.Channels)
	require.Equal(t, 1536, s.Samples)
	require.Equal(t, 1, int(s.Config()[4]>>1&15), "one dependent substream")
	require.Equal(t, uint16(2), uint16(s.Config()[4]&1)<<8|uint16(s.Config()[5]), "Lrs/Rrs")
}

func FuzzParse(f *testing.F) {
	plain, enhanced := packets(f)
	f.Add(plain)
	f.Add(enhanced)
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := Parse(b)
		if err != nil {
			return
		}
		require.Positive(t, s.SampleRate)
		require.Positive(t, s.Channels)
		require.NotEmpty(t, s.Config())
	})
}
