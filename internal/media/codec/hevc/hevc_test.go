package hevc

import (
	"encoding/hex"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/media"
	"github.com/klive-media/klive/internal/media/codec/clips"
)

func unhex(t testing.TB, s string) []byte {
	b, err := hex.DecodeString(s)
	require.NoError(t, err)
	return b
}

// config is that of a clip.
func config(t testing.TB, name string) []byte {
	cs, err := clips.All()
	require.NoError(t, err)
	for _, c := range cs {
		if c.Name == name {
			return c.Config
		}
	}
	t.Fatal("no clip " + name)
	return nil
}

// units puts NAL units behind 4-byte lengths.
func units(nals ...[]byte) []byte {
	var b []byte
	for _, n := range nals {
		b = append(b, 0, 0, byte(len(n)>>8), byte(len(n)))
		b = append(b, n...)
	}
	return b
}

func TestTrack(t *testing.T) {
	track, err := Track(config(t, "hdr"))
	require.NoError(t, err)
	require.Equal(t, "hvc1.2.4.L30.90", track.CodecString)
	require.Equal(t, media.Color{Primaries: 9, Transfer: media.TransferPQ, Matrix: 9}, track.Video.Color)
	c, err := ParseConfig(track.Config)
	require.NoError(t, err)
	require.Equal(t, 4, c.LengthSize)
	require.NotEmpty(t, c.SEI, "the messages for the whole stream are kept")

	for _, tc := range []struct {
		name   string
		change func(*Config)
	}{
		{"no VPS", func(c *Config) { c.VPS = nil }},
		{"no SPS", func(c *Config) { c.SPS = nil }},
		{"no PPS", func(c *Config) { c.PPS = nil }},
		{"a PPS as SPS", func(c *Config) { c.SPS = c.PPS }},
		{"an SPS that is cut", func(c *Config) { c.SPS = [][]byte{c.SPS[0][:20]} }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			broken := c
			tc.change(&broken)
			b, err := broken.Append(nil)
			if err == nil {
				_, err = Track(b)
			}
			require.Equal(t, fault.BadMedia, fault.ReasonOf(err))
		})
	}
	for i := range track.Config[:100] {
		_, err := ParseConfig(track.Config[:i])
		require.Error(t, err, "cut at %d", i)
	}
}

func TestCodecString(t *testing.T) {
	for want, p := range map[string]Profile{
		"hvc1.1.6.L93.B0":    {IDC: 1, Compatibility: 0x60000000, Level: 93, Constraints: 0xb0 << 40},
		"hvc1.2.4.H120":      {IDC: 2, Compatibility: 0x20000000, Level: 120, HighTier: true},
		"hvc1.A4.10.L30.0.8": {Space: 1, IDC: 4, Compatibility: 0x08000000, Level: 30, Constraints: 8 << 32},
	} {
		s := SPS{Profile: p}
		require.Equal(t, want, s.CodecString())
	}
}

func TestNormalizePayload(t *testing.T) {
	idr, cra := []byte{byte(NALIDR) << 1, 1, 'i'}, []byte{byte(NALCRA) << 1, 1, 'c'}
	trail, unused := []byte{1 << 1, 1, 't'}, []byte{0, 1, 'u'}
	sei, delimiter := []byte{byte(NALPrefixSEI) << 1, 1, 's'}, []byte{byte(NALDelimiter) << 1, 1, 0x50}
	sps := []byte{byte(NALSPS) << 1, 1, 'p'}
	for _, tc := range []struct {
		name     string
		in, want []byte
		info     Info
	}{
		{"IDR", units(delimiter, sps, sei, idr), units(sei, idr), Info{Slices: 1, RandomAccess: true, ParameterSets: true}},
		{"CRA", units(cra), units(cra), Info{Slices: 1, RandomAccess: true}},
		{"a picture that is needed", units(trail, trail), units(trail, trail), Info{Slices: 2}},
		{"a picture that is not", units(unused), units(unused), Info{Slices: 1, Droppable: true}},
		{"no picture", units(sei), units(sei), Info{}},
		{"half a header", units([]byte{1}), nil, Info{}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, info, err := NormalizePayload(new(media.Slab), tc.in, 4, 1)
			require.NoError(t, err)
			require.Equal(t, string(tc.want), string(got))
			require.Equal(t, tc.info, info)
		})
	}
	_, info, err := NormalizePayload(new(media.Slab), units(unused), 4, 2)
	require.NoError(t, err)
	require.False(t, info.Droppable, "a higher sub-layer may need it")
	_, _, err = NormalizePayload(new(media.Slab), []byte{0, 0, 0, 9, 1}, 4, 1)
	require.Equal(t, fault.BadMedia, fault.ReasonOf(err))
}

func TestUpdateConfig(t *testing.T) {
	small, err := Track(config(t, "hevc"))
	require.NoError(t, err)
	other, err := ParseConfig(config(t, "hdr"))
	require.NoError(t, err)
	own, err := ParseConfig(small.Config)
	require.NoError(t, err)

	same, changed, err := UpdateConfig(small.Config, units(own.VPS[0], own.SPS[0], own.PPS[0]), 4)
	require.NoError(t, err)
	require.False(t, changed)
	require.Equal(t, &small.Config[0], &same[0])
	require.Zero(t, testing.AllocsPerRun(10, func() { _, _, _ = UpdateConfig(small.Config, units(own.SPS[0]), 4) })-
		testing.AllocsPerRun(10, func() { _ = units(own.SPS[0]) }))

	now, changed, err := UpdateConfig(small.Config, units(other.VPS[0], other.SPS[0], other.PPS[0]), 4)
	require.NoError(t, err)
	require.True(t, changed)
	track, err := Track(now)
	require.NoError(t, err)
	require.Equal(t, "hvc1.2.4.L30.90", track.CodecString)

	fresh, changed, err := UpdateConfig(nil, units(own.VPS[0], own.SPS[0], own.PPS[0]), 4)
	require.NoError(t, err)
	require.True(t, changed)
	_, err = Track(fresh)
	require.NoError(t, err)

	_, _, err = UpdateConfig(small.Config, units([]byte{byte(NALPPS) << 1}), 4)
	require.Equal(t, fault.BadMedia, fault.ReasonOf(err))
}

func FuzzSPS(f *testing.F) {
	for _, name := range []string{"hevc", "hdr"} {
		c, err := ParseConfig(config(f, name))
		require.NoError(f, err)
		f.Add(c.SPS[0])
	}
	// 1920x1080 with scaling lists, two temporal layers and predicted reference sets.
	f.Add(unhex(f, "420101016000000300900000030000030078a003c08010e5963246a2492a60b6a0202020804000"))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := ParseSPS(b)
		if err != nil {
			return
		}
		require.Positive(t, s.Width)
		require.Positive(t, s.Height)
		c := Config{LengthSize: 4, SPS: [][]byte{b}}
		out, err := c.Append(nil)
		require.NoError(t, err)
		again, err := ParseConfig(out)
		require.NoError(t, err)
		require.Equal(t, c.SPS, again.SPS)
	})
}
